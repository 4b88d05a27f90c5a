package wire

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"

	"keystone/configs"
)

// wall stands between the routes and their broker, and has holes or not.
type wall struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
}

// behind is a listener that tells the wall's address as its own.
type behind struct {
	net.Listener
	at net.Addr
}

func (b behind) Addr() net.Addr { return b.at }

// listen is kfake's: what the broker advertises is the wall's.
func (w *wall) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	log := zerolog.Nop()
	w.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), log), "broker", "127.0.0.1:0", l.Addr().String())
	if err := w.proxy.Start(); err != nil {
		return nil, err
	}
	at, err := net.ResolveTCPAddr("tcp", w.proxy.Listen)
	if err != nil {
		return nil, err
	}
	return behind{l, at}, nil
}

func (w *wall) poison(kind, attributes string) {
	w.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"type": %q, "stream": %q, "attributes": {%s}}`, kind, stream, attributes))); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *wall) heal() {
	w.t.Helper()
	w.proxy.Toxics.ResetToxics(context.Background())
	if !w.proxy.Enabled {
		if err := w.proxy.Start(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestHostileNetwork breaks the network between a route and its broker in each way, while events flow:
// the route says what it waits for, goes on when the network is whole again, and has lost
// nothing and reordered nothing.
func TestHostileNetwork(t *testing.T) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // the proxy's
	for _, c := range []struct {
		name  string
		brk   func(w *wall)
		words []string // one of them is what the route says that it waits for; none: it need not notice
	}{
		{"connections are refused", func(w *wall) { w.proxy.Stop() }, []string{"partitioned", "retrying"}},
		{"nothing comes through, connections stay open", func(w *wall) { w.poison("timeout", `"timeout": 0`) }, []string{"partitioned", "retrying"}},
		{"connections are reset", func(w *wall) { w.poison("reset_peer", `"timeout": 0`) }, []string{"partitioned", "retrying"}},
		{"a narrow wire", func(w *wall) { w.poison("bandwidth", `"rate": 20`) }, nil},
		{"a long way", func(w *wall) { w.poison("latency", `"latency": 300, "jitter": 200`) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := &wall{t: t}
			r := newRelay(t, configs.PreferLatency, plainRoute, kfake.ListenFn(w.listen))
			t.Cleanup(func() { w.proxy.Stop() })
			r.grows("out")
			c.brk(w)
			if c.words != nil {
				r.says(c.words...)
			} else {
				r.grows("out")
			}
			w.heal()
			r.grows("out")
			r.says("fetching", "waiting for sink", "waiting_for_sink")
			t.Logf("%d records were delivered twice", r.end("in", "out"))
		})
	}
}

// says waits until the status of the route begins with one of the words.
func (r *relay) says(words ...string) {
	r.t.Helper()
	r.until(fmt.Sprintf("the route says %v", words), func() error {
		st, err := r.client.Status(r.t.Context())
		if err != nil {
			return err
		}
		for _, a := range st.Addresses {
			if a.Addr == "route.r" && slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(a.Activity, w) }) {
				r.t.Logf("%s: %s", a.Health, a.Activity)
				return nil
			} else if a.Addr == "route.r" {
				err = fmt.Errorf("%s: %s", a.Health, a.Activity)
			}
		}
		return err
	})
}

// unreachable is a route between streams of a cluster that cannot be reached.
const unreachable = `
cluster "main" {
  brokers      = [%q]
  dial_timeout = "2s"
%s}

stream "in" {}

stream "out" {}

route "r" {
  from = stream.in
  to   = stream.out
}
`

// TestUnreachableClusters: a server whose cluster cannot be reached when it starts says why, of
// the streams and of the route that waits for them.
func TestUnreachableClusters(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	plain, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plain.Close)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for _, c := range []struct {
		name, broker, more, says string
		turns                    int64 // of the loop: where it is refused at once it tries often
	}{
		{"nobody listens", gone.Addr().String(), "", "connection refused", 8},
		{"a name that nobody has", "nowhere..invalid:9092", "", "no such host", 8},
		{"a broker that says nothing", silent.Addr().String(), "", "no answer", 1},
		{"no TLS there", plain.ListenAddrs()[0], "  tls {}\n", "TLS", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "ks-lab-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			l := &lab{t: t, dir: dir}
			l.edit(fmt.Sprintf(unreachable, c.broker, c.more))
			l.ready = func() error {
				st, err := l.client.Status(t.Context())
				if err != nil {
					return err
				}
				said := map[string]string{}
				for _, a := range st.Addresses {
					said[a.Addr] = a.Error + " " + a.Activity
					if a.Addr == "stream.in" && (a.Restarts > 0 || len(a.Conditions) > 0) {
						t.Errorf("its cluster is away, and %s was started %d times: %+v", a.Addr, a.Restarts, a.Conditions)
					}
				}
				if st.Turns >= c.turns && strings.Contains(said["stream.in"], c.says) && strings.Contains(said["stream.in"], "cluster.main cannot be reached, so it is not known whether the topic") &&
					strings.Contains(said["route.r"], "waits for stream.in: cluster.main cannot be reached") {
					return nil
				}
				return fmt.Errorf("%q", said)
			}
			l.serve()
		})
	}
}
