package elasticsearch

import (
	"testing"

	"go.uber.org/goleak"

	"keystone/sinks"
	"keystone/sinks/sinktest"
)

// TestRealContract holds the sink to what all sinks must do, over a cluster behind a network that breaks.
func TestRealContract(t *testing.T) {
	l := shared(t)
	for _, test := range []struct {
		name string
		set  func(c *Config)
	}{
		{"as it is", func(*Config) {}},
		{"gzip", func(c *Config) { c.Compression = Gzip }},
		{"small requests", func(c *Config) { c.BatchRecords, c.BatchBytes = 13, 4<<10 }},
		{"create", func(c *Config) { c.Action, c.OriginSaid = Create, true }},
		{"no linger", func(c *Config) { c.Linger = 0 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Case {
				l := &lab{t: t, urls: l.urls}
				index, w := l.index(), l.wall()
				c := config(t, index, w.url)
				test.set(c)
				made := func(c *Config) sinks.Sink {
					s, err := c.New(deps())
					if err != nil {
						t.Fatal(err)
					}
					return s
				}
				return sinktest.Case{
					New:     func() sinks.Sink { return made(c) },
					Read:    func(*testing.T) []string { return l.sources(index) },
					Refused: []byte(`{"p":"no number"}`),
					Break: func(*testing.T) func() {
						w.proxy.Stop()
						return w.heal
					},
					Ignore: []goleak.Option{ // the network, once mended
						goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*Proxy).server"),
						goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*Proxy).freeBlocker"),
					},
					Unopenable: func() sinks.Sink { return made(config(t, index, "http://127.0.0.1:1")) },
				}
			})
		})
	}
}
