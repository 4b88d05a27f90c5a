package e2e

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// wall stands between the workers and one broker, and lets through what a fault leaves of the network.
type wall struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
}

// newWall is before the broker of this address, where `kafka.sh --proxied` told it that its clients come from.
func newWall(t *testing.T, broker string) *wall {
	t.Helper()
	host, port, err := net.SplitHostPort(broker)
	if err != nil {
		t.Fatal(err)
	}
	at := func(more int) string {
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		return net.JoinHostPort(host, strconv.Itoa(n+more))
	}
	zerolog.SetGlobalLevel(zerolog.Disabled) // the proxy's
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	w := &wall{t: t, proxy: toxiproxy.NewProxy(server, broker, at(40), at(30))}
	if err := w.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.proxy.Stop)
	return w
}

func (w *wall) poison(stream, kind, attributes string) {
	w.t.Helper()
	if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"type": %q, "stream": %q, "attributes": {%s}}`, kind, stream, attributes))); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wall) heal() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.proxy.Toxics.ResetToxics(ctx)
	if !w.proxy.Enabled {
		if err := w.proxy.Start(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// network chooses what is wrong with the way to one broker, or to all of them, and gives what does it.
func (c *chaos) network() (kind string, fault func()) {
	type way struct {
		kind string
		brk  func(w *wall)
	}
	both := func(toxic, attributes string) func(w *wall) {
		return func(w *wall) {
			w.poison("upstream", toxic, attributes)
			w.poison("downstream", toxic, attributes)
		}
	}
	ways := []way{
		{"is long", both("latency", fmt.Sprintf(`"latency": %d, "jitter": %d`, 50+c.rng.IntN(500), c.rng.IntN(300)))},
		{"is narrow", both("bandwidth", fmt.Sprintf(`"rate": %d`, 5+c.rng.IntN(50)))},
		{"is silent", both("timeout", `"timeout": 0`)},
		{"loses answers", func(w *wall) { w.poison("downstream", "timeout", `"timeout": 0`) }},
		{"resets connections", both("reset_peer", `"timeout": 0`)},
		{"cuts connections within an answer", func(w *wall) {
			w.poison("downstream", "limit_data", fmt.Sprintf(`"bytes": %d`, 100+c.rng.IntN(20_000)))
		}},
		{"is gone", func(w *wall) { w.proxy.Stop() }},
	}
	chosen := ways[c.rng.IntN(len(ways))]
	walls, to := c.walls, "all brokers"
	if i := c.rng.IntN(2 * len(c.walls)); i < len(c.walls) {
		walls, to = c.walls[i:i+1], "one broker"
	}
	return fmt.Sprintf("the way to %s %s", to, chosen.kind), func() {
		for _, w := range walls {
			chosen.brk(w)
		}
		time.Sleep(c.pause()) // how long it is so
		for _, w := range walls {
			w.heal()
		}
	}
}
