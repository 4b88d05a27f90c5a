package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestRealOrders is a route that writes each partition with several writers, while its process and its
// broker are killed: nothing is lost, and with order = "key" the first deliveries of a partition with
// the same key are in order.
func TestRealOrders(t *testing.T) {
	for order, sequence := range map[string]func(e event, key []byte) string{
		"key":  func(e event, key []byte) string { return fmt.Sprintf("partition %d, key %s", e.P, key) },
		"none": func(event, []byte) string { return "" },
	} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			b := ownBroker(t)
			f := newFixture(t, b.addr, 10_000)
			config(t, f.dir, strings.Replace(f.text(b.addr), "  to = stream.out\n",
				"  to    = stream.out\n  key   = \"string(seq % 35)\"\n  order = \""+order+"\"\n\n  batch {\n    records = 100\n  }\n", 1))
			p := serve(t, f.dir)
			p.healthy("route.plays", "running")
			cl := client(t, b.addr)
			f.produce(t, cl, func(sent int) {
				switch sent {
				case 2000, 6000:
					p.kill()
					p = serve(t, f.dir)
				case 4000, 8000:
					b.kill()
					b.start()
				}
			})
			keys := map[string]bool{}
			repeated := f.oracleBy(t, b.addr, f.target, func(e event, key []byte) string {
				keys[string(key)] = true
				return sequence(e, key)
			})
			t.Logf("%d events repeated", repeated)
			if len(keys) != 7 {
				t.Errorf("%d keys, want 7", len(keys))
			}
			p.healthy("route.plays", "running")
			p.stop()
		})
	}
}
