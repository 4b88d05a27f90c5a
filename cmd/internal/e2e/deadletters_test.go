package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
)

const lettersConfig = `
keystone { namespace = %q }

cluster "main" { brokers = [%q] }

stream "in" {
  topic      = %q
  partitions = 2
}

stream "out" {
  topic      = %q
  partitions = 2
}

route "plays" {
  from     = stream.in
  to       = stream.out
  project  = { seq = %q }
  delivery { commit_interval = "50ms" }
}
`

// listed gives the dead letters of the route.
func listed(t *testing.T, dir string, args ...string) (out []api.DeadLetter) {
	t.Helper()
	text := must(t, append(append([]string{"dead-letters", "list", "-json"}, args...), "route.plays", dir)...)
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		var l api.DeadLetter
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatalf("%s: %v", s.Text(), err)
		}
		out = append(out, l)
	}
	return out
}

// TestRealDeadLetters: on a real Kafka records fail, the route is mended and
// they are replayed by the binary; one that stays broken becomes a letter again and is purged.
func TestRealDeadLetters(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	dir, in, out, namespace := t.TempDir(), name("in-"), name("out-"), name("e2e-")
	text := func(seq string) string { return fmt.Sprintf(lettersConfig, namespace, addr, in, out, seq) }
	config(t, dir, text("seq * 1"))
	p := serve(t, dir)
	p.healthy("route.plays", "running")
	cl := client(t, addr)
	const n = 200
	var rs []*kgo.Record
	for i := range n {
		value := fmt.Sprintf(`{"seq":%d}`, i)
		switch {
		case i == 17:
			value = `{"seq":`
		case i%10 == 3:
			value = fmt.Sprintf(`{"seq":"%d"}`, i)
		}
		rs = append(rs, &kgo.Record{Topic: in, Key: fmt.Appendf(nil, "k%d", i), Value: []byte(value)})
	}
	if err := cl.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	const bad = n/10 + 1
	until(t, "the letters are there", func() error {
		if got := len(listed(t, dir)); got != bad {
			return fmt.Errorf("%d letters, want %d", got, bad)
		}
		return nil
	})
	if got := listed(t, dir, "-where", `meta.key == "k13"`); len(got) != 1 || got[0].Code != "type" || got[0].Identity == "" {
		t.Errorf("%+v", got)
	}
	config(t, dir, text("int(seq)"))
	until(t, "the edit is taken", func() error {
		if s := must(t, "status", "-json", dir); !strings.Contains(s, `"serial": 2`) {
			return fmt.Errorf("%s", s)
		}
		return nil
	})
	p.healthy("route.plays", "running")
	// A server that is killed after a replay remembers it.
	if text, err := run(t, "dead-letters", "replay", "-auto-approve", "route.plays", dir); err == nil || !strings.Contains(text, fmt.Sprintf("%d delivered, 0 filtered, 0 dropped, 1 failed again", bad-1)) {
		t.Fatalf("%v: %s", err, text)
	}
	p.kill()
	if got := listed(t, dir); len(got) != bad+1 { // without a server, from the cluster
		t.Errorf("%d letters without a server", len(got))
	}
	p = serve(t, dir)
	p.healthy("route.plays", "running")
	if text := must(t, "dead-letters", "replay", "-plan", "route.plays", dir); !strings.Contains(text, "1 dead letter of route.plays") {
		t.Errorf("%s", text)
	}
	if text := must(t, "verify", "route.plays", dir); !strings.Contains(text, "route.plays") {
		t.Errorf("%s", text)
	}
	got := map[string]int{}
	all := client(t, addr, kgo.ConsumeTopics(out))
	for len(got) < n-1 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		fs := all.PollFetches(ctx)
		cancel()
		if err := fs.Err(); err != nil {
			t.Fatalf("%d of %d keys: %v", len(got), n-1, err)
		}
		fs.EachRecord(func(r *kgo.Record) { got[string(r.Key)]++ })
	}
	for i := range n {
		key := fmt.Sprintf("k%d", i)
		if want := i != 17; (got[key] == 1) != want {
			t.Errorf("%s was delivered %d times", key, got[key])
		}
	}
	must(t, "dead-letters", "purge", "-all", "-auto-approve", "route.plays", dir)
	adm := kadm.NewClient(cl)
	topic := "keystone.dead-letters." + namespace + ".default.plays"
	begin, err := adm.ListStartOffsets(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := begin.Lookup(topic, 0); o.Offset != bad+1 {
		t.Errorf("the topic begins at %d, want %d", o.Offset, bad+1)
	}
	if got := listed(t, dir); len(got) != 0 {
		t.Errorf("%d letters after the purge", len(got))
	}
	p.stop()
}
