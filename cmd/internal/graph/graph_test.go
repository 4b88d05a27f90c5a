package graph_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keystone/cmd/internal/graph"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sample() *configs.Config {
	at := func(typ, name string) addr.Addr { return addr.New(typ, name) }
	ref := func(a addr.Addr) spec.Ref { return spec.Ref{Addr: a} }
	c := &configs.Config{
		Sources: map[addr.Addr]*configs.Source{at("source", "plays"): {Kind: "generator"}},
		Sinks:   map[addr.Addr]*configs.Sink{at("sink", "a"): {Kind: "file"}, at("sink", "b"): {Kind: "stdout"}},
		Streams: map[addr.Addr]*configs.Stream{at("stream", "playback"): {}, at("stream", "dead"): {}, at("stream", "unused").Instance("<&>"): {}},
		Routes:  map[addr.Addr]*configs.Route{},
	}
	for _, r := range []configs.Route{
		{Addr: at("route", "in"), Enabled: true, From: ref(at("source", "plays")), To: ref(at("stream", "playback"))},
		{Addr: at("route", "tv").Instance("eu"), Enabled: true, From: ref(at("stream", "playback")), To: ref(at("sink", "a")), DeadLetter: ref(at("stream", "dead"))},
		{Addr: at("route", "web"), From: ref(at("stream", "playback")), To: ref(at("sink", "b"))},
	} {
		c.Routes[r.Addr] = &r
	}
	return c
}

func TestGolden(t *testing.T) {
	for name, draw := range map[string]func(io.Writer, graph.Graph) error{"flow.dot": graph.DOT, "flow.svg": graph.SVG} {
		var b bytes.Buffer
		if err := draw(&b, graph.Of(sample())); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), b.String()); d != "" {
			t.Errorf("%s (-want +got)\n%s", path, d)
		}
	}
}

// Any configuration gives well-formed XML, also one without routes, and one
// with a cycle, which validate would refuse.
func TestSVGIsXML(t *testing.T) {
	cycle := sample()
	back := configs.Route{Addr: addr.New("route", "back"), From: spec.Ref{Addr: addr.New("stream", "dead")}, To: spec.Ref{Addr: addr.New("stream", "playback")}}
	cycle.Routes[back.Addr] = &back
	for i := range 200 {
		r := configs.Route{Addr: addr.New("route", fmt.Sprintf("r%d", i)), From: spec.Ref{Addr: addr.New("stream", "playback")}, To: spec.Ref{Addr: addr.New("sink", "a")}}
		cycle.Routes[r.Addr] = &r
	}
	for _, c := range []*configs.Config{{}, sample(), cycle} {
		var b bytes.Buffer
		if err := graph.SVG(&b, graph.Of(c)); err != nil {
			t.Fatal(err)
		}
		boxes := 0
		for d := xml.NewDecoder(&b); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
				boxes++
			}
		}
		if want := len(c.Sources) + len(c.Sinks) + len(c.Streams) + len(c.Routes); boxes != want {
			t.Errorf("%d boxes, want %d", boxes, want)
		}
	}
}
