package wire

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"keystone/cmd/internal/api"
)

// TestRealOutside makes an index template by the control plane, and changes it by hand: the loop mends it, and
// it goes with its block where that says so.
func TestRealOutside(t *testing.T) {
	urls := os.Getenv("KEYSTONE_TEST_ELASTICSEARCH")
	if urls == "" {
		t.Skip("no real Elasticsearch: set KEYSTONE_TEST_ELASTICSEARCH=http://host:port, or run `make e2e`, which starts one")
	}
	url, _, _ := strings.Cut(urls, ",")
	call := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	index := "w-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	t.Cleanup(func() { call(http.MethodDelete, "/"+index, "") })
	stream := `
stream "s" {
  schema = object({ n = int, pct = float })
}
`
	l := newLab(t, stream+fmt.Sprintf(`
sink "elasticsearch" "search" {
  urls       = [%q]
  index      = %q
  on_destroy = "delete"
  template {
    replicas = 0
  }
}
route "r" {
  from = stream.s
  to   = sink.search
}
`, url, index))
	holds := func(what string) error {
		if code, text := call(http.MethodGet, "/_index_template/"+index+"?flat_settings=true", ""); code != http.StatusOK || !strings.Contains(text, what) {
			return fmt.Errorf("%d %s lacks %s", code, text, what)
		}
		return nil
	}
	l.until("the template is made", func() error { return holds(`"pct":{"type":"double"}`) })
	if code, text := call(http.MethodPut, "/_index_template/"+index, `{"index_patterns":["`+index+`"],"priority":200,"_meta":{"managed_by":"keystone"},"template":{"mappings":{"properties":{"pct":{"type":"long"}}}}}`); code != http.StatusOK {
		t.Fatal(text)
	}
	cfg, diags := l.load()
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	// Whoever looks first: the plan that shows it, or the loop that mends it.
	l.until("the drift is shown or mended", func() error {
		plan, err := l.client.Plan(t.Context(), cfg, api.PlanOptions{})
		if err != nil {
			return err
		}
		for _, c := range plan.Changes {
			for _, x := range c.Things {
				t.Log(c.Addr, c.Action, x.Differs)
				if strings.Contains(strings.Join(x.Differs, "; "), "mapping of pct: long, wanted double") {
					return nil
				}
			}
		}
		return holds(`"pct":{"type":"double"}`)
	})
	l.until("the drift is mended", func() error { return holds(`"pct":{"type":"double"}`) })
	l.edit(stream)
	cfg, diags = l.load()
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	st, err := l.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.Apply(t.Context(), cfg, api.ApplyOptions{Serial: st.Serial}, func(api.ApplyEvent) {}); err != nil {
		t.Fatal(err)
	}
	l.until("the template goes", func() error {
		if code, text := call(http.MethodGet, "/_index_template/"+index, ""); code != http.StatusNotFound {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
}
