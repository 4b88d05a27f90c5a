package docs_test

import (
	"strings"
	"testing"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/docs"
	"keystone/configs"
	"keystone/configs/diag"
	"keystone/dsl/ir"
	sinkcatalog "keystone/sinks/catalog"
	sourcecatalog "keystone/sources/catalog"
)

func input() docs.Input {
	return docs.Input{
		Blocks:    configs.Blocks(configs.Catalog{Sources: sourcecatalog.Kinds(), Sinks: sinkcatalog.Kinds()}),
		Functions: ir.Functions(), Aggregates: ir.Aggregates(),
		Codes:    []diag.Code{{Code: "KS2001", Summary: "B"}, {Code: "KS1001", Summary: "A | B", Doc: "Why."}},
		Metrics:  api.Metrics(),
		Commands: []docs.Command{{Name: "keystone run", Use: "keystone run [flags]", Doc: "Runs.", Flags: []docs.Flag{{Name: "limit", Value: "N", Doc: "stop"}}}},
		Exits:    []docs.Exit{{Code: 3, Doc: "Invalid."}},
	}
}

// Everything that is declared has a section, and every option a row.
func TestComplete(t *testing.T) {
	in := input()
	pages := docs.Pages(in)
	for _, b := range in.Blocks {
		name := b.Type
		if b.Kind != "" {
			name = b.Type + " " + b.Kind
		}
		found := docs.Find(pages, name)
		if len(found) != 1 {
			t.Errorf("%s: %d sections", name, len(found))
			continue
		}
		for _, o := range b.Options {
			if !strings.Contains(found[0].Body, "`"+o.Name) {
				t.Errorf("%s: nothing about %s", name, o.Name)
			}
		}
	}
	for _, f := range in.Functions {
		if len(docs.Find(pages, f.Name)) == 0 {
			t.Errorf("nothing about the function %s", f.Name)
		}
	}
	for _, name := range []string{"KS1001", "ks2001", "run", "file", "keystone_build_info"} {
		if len(docs.Find(pages, name)) == 0 {
			t.Errorf("nothing about %s", name)
		}
	}
}

// Tables have as many cells in every row as in their head.
func TestTables(t *testing.T) {
	for _, p := range docs.Pages(input()) {
		cells := 0
		for i, line := range strings.Split(p.Markdown(), "\n") {
			n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
			switch {
			case !strings.HasPrefix(line, "|"):
				cells = 0
			case cells == 0:
				cells = n
			case n != cells:
				t.Errorf("%s:%d has %d cells, its table %d: %s", p.File, i+1, n, cells, line)
			}
		}
	}
}

func TestSameBytes(t *testing.T) {
	a, b := docs.Pages(input()), docs.Pages(input())
	for i := range a {
		if a[i].Markdown() != b[i].Markdown() {
			t.Errorf("%s differs between two runs", a[i].File)
		}
	}
}
