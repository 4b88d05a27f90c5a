package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/sinks"
)

// lab is a server in this process with the embedded broker.
type lab struct {
	t      *testing.T
	dir    string
	client *api.Client
	stop   func()
	log    *slog.Logger // of the server; nil for none
	ready  func() error // what is waited for when the server starts; nil: that everything runs
	kafka  *kgo.Client
	adm    *kadm.Client
	addrs  []string // of the cluster; none: the broker of the server
	wrap   func(sinks.Sink, sinks.Deps) sinks.Sink
}

// patience bounds every wait.
const patience = time.Minute

func (l *lab) file() string { return filepath.Join(l.dir, "main.ks.hcl") }

func (l *lab) load() (*configs.Config, diag.Diagnostics) {
	return configs.Load(configs.LoadOptions{Dir: l.dir, Catalog: Catalog(), Version: "0.0.0"})
}

func newLab(t *testing.T, text string, addrs ...string) *lab {
	t.Helper()
	return (&lab{t: t, addrs: addrs}).open(text)
}

// open serves a configuration in a directory of its own.
func (l *lab) open(text string) *lab {
	t := l.t
	t.Helper()
	dir, err := os.MkdirTemp("", "ks-lab-") // short: a socket's path has a bound
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l.dir = dir
	l.edit(text)
	l.serve()
	return l
}

// edit writes the configuration; a running server takes it.
func (l *lab) edit(text string) {
	l.t.Helper()
	if err := os.WriteFile(l.file(), []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// serve starts a server, and connects.
func (l *lab) serve() {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	spec := ServeSpec{Dir: l.dir, Env: "default", Watch: true, Log: l.log, Load: l.load, wrap: l.wrap,
		Show: func(ds diag.Diagnostics) { l.t.Errorf("the configuration has errors: %v", ds.Err()) }}
	go func() { done <- Serve(ctx, spec) }()
	path, err := api.SocketPath(filepath.Join(l.dir, ".keystone"), "default")
	if err != nil {
		l.t.Fatal(err)
	}
	l.client = api.NewUnixClient(path, api.Codec{Encode: EncodeGoal, Decode: DecodeGoal})
	stopped := false
	l.stop = func() {
		if stopped {
			return
		}
		stopped = true
		if l.kafka != nil {
			l.kafka.Close()
			l.kafka = nil
		}
		l.client.Close()
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("serve: %v", err)
		}
	}
	l.t.Cleanup(l.stop)
	if l.ready != nil {
		l.until("the server is as expected", l.ready)
		return
	}
	l.until("the server runs", func() error {
		st, err := l.client.Status(l.t.Context())
		if err != nil {
			return err
		}
		if len(st.Addresses) == 0 {
			return errors.New("nothing was looked at yet")
		}
		for _, a := range st.Addresses {
			if a.Health != "running" {
				return fmt.Errorf("%s is %s %s", a.Addr, a.Health, a.Error)
			}
		}
		return nil
	})
	if l.kafka != nil {
		return // a cluster of the test
	}
	addrs := l.addrs
	if addrs == nil {
		port, err := os.ReadFile(filepath.Join(l.dir, ".keystone", "default", "broker", "port"))
		if err != nil {
			l.t.Fatal(err)
		}
		addrs = []string{net.JoinHostPort("127.0.0.1", strings.TrimSpace(string(port)))}
	}
	l.kafka, err = kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		l.t.Fatal(err)
	}
	l.adm = kadm.NewClient(l.kafka)
}

// change edits the configuration and waits until it is brought about, as revision serial.
func (l *lab) change(text string, serial int64) {
	l.t.Helper()
	l.edit(text)
	l.until("the edit is taken", func() error {
		st, err := l.client.Status(l.t.Context())
		if err == nil && st.Serial != serial {
			err = fmt.Errorf("serial %d", st.Serial)
		}
		return err
	})
	cfg, diags := l.load()
	if err := diags.Err(); err != nil {
		l.t.Fatal(err)
	}
	// The same goal again is not stored again: this only waits.
	if _, err := l.client.Apply(l.t.Context(), cfg, api.ApplyOptions{Serial: serial}, func(api.ApplyEvent) {}); err != nil {
		l.t.Fatal(err)
	}
}

// until asks again until ok gives nil.
func (l *lab) until(what string, ok func() error) {
	l.t.Helper()
	for end := time.Now().Add(patience); ; {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond) // between questions to a server
	}
}

// produce writes records and gives them with their offsets.
func (l *lab) produce(rs ...*kgo.Record) []*kgo.Record {
	l.t.Helper()
	if err := l.kafka.ProduceSync(l.t.Context(), rs...).FirstErr(); err != nil {
		l.t.Fatal(err)
	}
	return rs
}

// committed waits until the route has committed everything of its topic.
func (l *lab) committed(group, topic string) {
	l.t.Helper()
	l.until("everything is committed", func() error {
		ends, err := l.adm.ListEndOffsets(l.t.Context(), topic)
		if err != nil {
			return err
		}
		at, err := l.adm.FetchOffsets(l.t.Context(), group)
		if err != nil {
			return err
		}
		for p, e := range ends[topic] {
			if o, _ := at.Lookup(topic, p); o.At < e.Offset && e.Offset > 0 {
				return fmt.Errorf("partition %d: %d of %d", p, o.At, e.Offset)
			}
		}
		return nil
	})
}

// topic gives every record of a topic.
func (l *lab) topic(name string) (out []*kgo.Record) {
	l.t.Helper()
	ends, err := l.adm.ListEndOffsets(l.t.Context(), name)
	if err != nil {
		l.t.Fatal(err)
	}
	begins, err := l.adm.ListStartOffsets(l.t.Context(), name)
	if err != nil {
		l.t.Fatal(err)
	}
	n := int64(0)
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	begins.Each(func(o kadm.ListedOffset) { n -= o.Offset })
	cl, err := kgo.NewClient(append(l.kafka.Opts(), kgo.ConsumeTopics(name))...)
	if err != nil {
		l.t.Fatal(err)
	}
	defer cl.Close()
	for int64(len(out)) < n {
		fs := cl.PollFetches(l.t.Context())
		if err := fs.Err(); err != nil {
			l.t.Fatal(err)
		}
		out = append(out, fs.Records()...)
	}
	return out
}

// verify judges a route.
func (l *lab) verify(o api.VerifyOptions) api.VerifyReport {
	l.t.Helper()
	r, err := l.client.Verify(l.t.Context(), addr.New("route", "r"), o, func(api.VerifyProgress) {})
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}
