package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline/deadletter"
)

const letterSinkConfig = `
stream "in" {}
stream "out" {}
sink "elasticsearch" "rejected" {
  urls  = [%q]
  index = %q
}
route "r" {
  from        = stream.in
  project     = { twice = "n * 2" }
  to          = stream.out
  dead_letter = sink.rejected
  delivery { commit_interval = "20ms" }
}
`

// TestRealLettersInASink: what a route cannot process becomes documents of a sink, each
// once and whole, before its position moves on; what cannot be read there is said.
func TestRealLettersInASink(t *testing.T) {
	urls := os.Getenv("KEYSTONE_TEST_ELASTICSEARCH")
	if urls == "" {
		t.Skip("needs a real Elasticsearch: run it under .testenv/with-elasticsearch")
	}
	url, _, _ := strings.Cut(urls, ",")
	index := fmt.Sprintf("rejected-%d", time.Now().UnixNano())
	l := newLab(t, fmt.Sprintf(letterSinkConfig, url, index+"-{error_code}"))
	var rs []*kgo.Record
	for i := range 40 {
		value := fmt.Sprintf(`{"n":%d}`, i)
		switch i % 10 {
		case 3:
			value = fmt.Sprintf(`{"n":"%d"}`, i)
		case 7:
			value = "no JSON \xff"
		}
		rs = append(rs, &kgo.Record{Topic: "in", Key: []byte("k"), Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}})
	}
	l.produce(rs...)
	l.committed("keystone.default.default.route.r", "in")
	search := func(what string) (sources []deadletter.Letter) {
		t.Helper()
		resp, err := http.Post(url+"/"+index+"-"+what+"/_refresh", "application/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp, err = http.Get(url + "/" + index + "-" + what + "/_search?size=100&sort=offset"); err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var found struct {
			Hits struct {
				Hits []struct {
					Source deadletter.Letter `json:"_source"`
				} `json:"hits"`
			} `json:"hits"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&found); err != nil {
			t.Fatal(err)
		}
		for _, h := range found.Hits.Hits {
			sources = append(sources, h.Source)
		}
		return sources
	}
	check := func() {
		t.Helper()
		typed, broken := search("type"), search("decode")
		if len(typed) != 4 || len(broken) != 4 {
			t.Fatalf("%d and %d letters, want 4 and 4", len(typed), len(broken))
		}
		for i, x := range typed {
			if n := i*10 + 3; x.Offset != int64(n) || x.Route != "route.r" || x.Value == nil || *x.Value != fmt.Sprintf(`{"n":"%d"}`, n) || x.Key == nil || *x.Key != "k" || len(x.Headers) != 1 || x.Error == "" {
				t.Errorf("letter %d: %+v", i, x)
			}
		}
		if x := broken[0]; string(x.ValueBase64) != "no JSON \xff" || x.Offset != 7 {
			t.Errorf("bytes that are no text: %+v", x)
		}
	}
	check()
	// The same records once more: the documents are the same.
	l.stop()
	l.serve()
	if _, err := l.client.Rewind(t.Context(), api.Rewind{Address: "route.r", Start: true, Who: "tester"}); err != nil {
		t.Fatal(err)
	}
	l.until("everything was read again", func() error {
		st, err := l.client.StatusOf(t.Context(), addr.New("route", "r"))
		if err == nil && (len(st.Addresses) != 1 || st.Addresses[0].Counters == nil || st.Addresses[0].Counters.DeadLettered != 8) {
			err = errors.New("not yet")
		}
		return err
	})
	check()
	_, err := l.client.DeadLetters(t.Context(), api.LetterQuery{Address: "route.r"}, func(api.DeadLetter) error { return nil })
	if !errors.Is(err, api.ErrUnsupported) || !strings.Contains(err.Error(), "sink.rejected") {
		t.Errorf("listing them: %v", err)
	}
}

// TestLetterType: what a letter is as JSON is what its type says.
func TestLetterType(t *testing.T) {
	value, at := "v", time.Unix(5, 0)
	b, err := json.Marshal(deadletter.Letter{Identity: "i", Timestamp: 5, Key: &value, KeyBase64: []byte{1}, Value: &value, ValueBase64: []byte{1}, At: "a", Replays: 1, Time: at,
		Headers: []deadletter.LetterHeader{{Key: "k", Value: &value, ValueBase64: []byte{1}}}})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	typ := configs.LetterType()
	for _, f := range typ.Fields {
		if _, ok := fields[f.Name]; !ok {
			t.Errorf("the type has %s, a letter has not", f.Name)
		}
		delete(fields, f.Name)
	}
	if len(fields) > 0 {
		t.Errorf("a letter has %v, the type has not", fields)
	}
}
