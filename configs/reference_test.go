package configs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	sinkcatalog "keystone/sinks/catalog"
	sourcecatalog "keystone/sources/catalog"
)

func realCatalog() configs.Catalog {
	return configs.Catalog{Sources: sourcecatalog.Kinds(), Sinks: sinkcatalog.Kinds()}
}

func loadText(t *testing.T, catalog configs.Catalog, text string) (*configs.Config, diag.Diagnostics) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.ks.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return configs.Load(configs.LoadOptions{Dir: dir, Catalog: catalog})
}

// TestDeclarations holds every declared option, of blocks and of all kinds,
// to what messages and the reference need.
func TestDeclarations(t *testing.T) {
	for _, b := range configs.Blocks(realCatalog()) {
		if !strings.HasSuffix(b.Doc, ".") {
			t.Errorf("%s: the text %q is no sentence", b.Header, b.Doc)
		}
		checkOptions(t, b.Header, b.Options)
		required(b.Options, func(o *spec.Option) { o.IsRequired = false })
		if diags := spec.Decode(b.Options, spec.Body{}); diags.HasErrors() {
			t.Errorf("%s: %v", b.Header, diags.Err())
		}
	}
}

func required(opts spec.Options, f func(*spec.Option)) {
	for _, o := range opts {
		f(o)
		required(o.Block, f)
	}
}

func checkOptions(t *testing.T, where string, opts spec.Options) {
	t.Helper()
	seen := map[string]bool{}
	for _, o := range opts {
		at := where + " " + o.Name
		if !addr.IsLabel(o.Name) || seen[o.Name] || o.Name == "for_each" {
			t.Errorf("%s: the name is no label or used twice", at)
		}
		seen[o.Name] = true
		if o.Doc == "" || !strings.HasSuffix(o.Doc, ".") && !strings.HasSuffix(o.Doc, ")") {
			t.Errorf("%s: the text %q is no sentence", at, o.Doc)
		}
		if o.Kind == spec.KindBlock {
			checkOptions(t, at, o.Block)
			continue
		}
		if o.Output && o.Kind != spec.KindExpr && o.Kind != spec.KindPattern && o.Kind != spec.KindExprMap && where != `route "NAME"` {
			t.Errorf("%s: a sink can ask for expressions and patterns of the output event, not for %s", at, o.Kind)
		}
		if o.HasDefault && o.IsRequired {
			t.Errorf("%s: required, with a default", at)
		}
		if o.IsRequired && o.Example == "" && o.Kind != spec.KindEnum {
			t.Errorf("%s: required, without an example", at)
		}
	}
}

// around is what examples refer to.
const around = `
cluster "main" {
  brokers = ["127.0.0.1:9092"]
}
stream "playback" {
  cluster = cluster.main
  topic   = "plays"
}
stream "rejected" {
  cluster = cluster.main
}
sink "stdout" "search" {}
variable "region" {
  default = "us-east-1"
}
`

// TestOptionExamples loads each option's example in a block of its own,
// beside the examples of the required ones.
func TestOptionExamples(t *testing.T) {
	for _, b := range configs.Blocks(realCatalog()) {
		for _, o := range b.Options {
			if o.Example == "" {
				continue
			}
			t.Run(strings.Trim(b.Type+" "+b.Kind, " ")+" "+o.Name, func(t *testing.T) {
				var body strings.Builder
				for _, x := range b.Options {
					if x.Kind != spec.KindBlock && (x == o || x.IsRequired) {
						fmt.Fprintf(&body, "%s = %s\n", x.Name, x.Example)
					}
				}
				if b.Type == "job" {
					body.WriteString("read \"plays\" {\nfrom = stream.playback\n}\nwrite \"out\" {\ninput = read.plays\nto = sink.search\n}\n")
				}
				header := strings.Replace(b.Header, "NAME", "example", 1)
				_, diags := loadText(t, realCatalog(), around+header+" {\n"+body.String()+"}\n")
				if diags.HasErrors() {
					t.Errorf("%v\n%s", diags.Err(), body.String())
				}
			})
		}
	}
}

// TestBlockExamples holds that examples are formatted, and load where they
// stand alone.
func TestBlockExamples(t *testing.T) {
	for _, b := range configs.Blocks(realCatalog()) {
		if b.Example == "" {
			continue
		}
		out, diags := configs.Format("example", []byte(b.Example))
		if diags.HasErrors() || string(out) != b.Example {
			t.Errorf("%s: %v\nformatted:\n%s", b.Header, diags.Err(), out)
		}
		text := b.Example
		switch b.Type {
		case "moved":
			text += around + "route \"tv_plays\" {\n  from = stream.playback\n  to   = sink.search\n}\n"
		case "route", "removed", "defaults", "locals", "keystone":
			text += around
		case "job":
			text += around + "stream \"plays\" {\n  cluster = cluster.main\n  topic   = \"counted\"\n}\n"
		}
		if _, diags := loadText(t, realCatalog(), text); diags.HasErrors() {
			t.Errorf("%s: %v", b.Header, diags.Err())
		}
	}
}

func TestSmallestConfiguration(t *testing.T) {
	src, err := os.ReadFile("testdata/good/smallest/main.ks.hcl")
	if err != nil {
		t.Fatal(err)
	}
	c, diags := loadText(t, realCatalog(), string(src))
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	r := c.Routes[addr.New("route", "hello")]
	if r.Checked == nil || len(r.Checked.Filter) != 1 || len(r.Checked.Project) != 2 {
		t.Errorf("checked: %+v", r.Checked)
	}
	want := []configs.Edge{{From: addr.New("source", "plays"), To: r.Addr}, {From: r.Addr, To: addr.New("sink", "screen")}}
	if got := c.Graph(); !slices.Equal(got, want) {
		t.Errorf("graph: %v", got)
	}
}

// TestCodes holds that codes are unique and documented.
func TestCodes(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range configs.Codes() {
		if seen[c.Code] || c.Summary == "" || c.Doc == "" {
			t.Errorf("%+v", c)
		}
		seen[c.Code] = true
	}
}

func TestUnchecked(t *testing.T) {
	c, diags := loadText(t, testCatalog(), `
source "generator" "typed" {
  schema = object({ a = int })
}
source "generator" "untyped" {}
sink "stdout" "out" {}
route "a" {
  from   = source.typed
  filter = "a > 1"
  to     = sink.out
}
route "b" {
  from   = source.untyped
  filter = "a > 1"
  to     = sink.out
}
route "c" {
  from   = source.untyped
  filter = "meta.partition == 1"
  to     = sink.out
}
source "typed" "known" {}
source "typed" "said" {
  schema = object({ b = int })
}
route "e" {
  from   = source.known
  filter = "a > 1"
  to     = sink.out
}
route "f" {
  from   = source.said
  filter = "b > 1"
  to     = sink.out
}
route "d" {
  from    = source.untyped
  project = { x = { y = "a" } }
  to      = sink.out
}
`)
	if c == nil {
		t.Fatal(diags.Err())
	}
	if got, want := fmt.Sprint(c.Unchecked()), "[route.b route.d]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
