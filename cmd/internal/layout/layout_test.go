// Package layout holds the architecture to its drawing: which folders there
// are, and who may import whom (docs/architecture.md).
package layout

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

const module = "keystone/"

// folders are the only entries of the top level, dot-files aside.
var folders = []string{
	"cmd", "configs", "docs", "dsl", "examples", "pipeline", "reconcile", "sinks", "sources",
	"go.mod", "go.sum", "LICENSE", "Makefile", "README.md",
}

// leaves import nothing of Keystone's but other leaves listed for them.
var leaves = map[string][]string{
	"configs/diag":      {},
	"configs/addr":      {},
	"configs/spec":      {"configs/diag", "configs/addr", "dsl/types"},
	"dsl/types":         {},
	"pipeline/record":   {},
	"pipeline/json":     {},
	"pipeline/mutation": {},
	"pipeline/state":    {"pipeline/record"},
}

// parents may be imported by the packages below them only as said here.
// A rule reads: a package whose path begins with from must not import one
// whose path begins with to, unless it is listed in but.
var forbidden = []struct {
	from, to string
	but      []string
	why      string
}{
	{"", "sources/catalog", []string{"cmd/"}, "only cmd knows all kinds"},
	{"", "sinks/catalog", []string{"cmd/"}, "only cmd knows all kinds"},
	{"", "cmd/", []string{"cmd/"}, "nothing depends on the command line"},
	{"reconcile", "pipeline", nil, "the control plane talks to a Runtime"},
	{"reconcile", "dsl/eval", nil, "the control plane never evaluates"},
	{"pipeline", "reconcile", nil, "the data plane lives without its planner"},
	{"configs", "pipeline", []string{"configs/"}, "configs imports dsl, sources and sinks"},
	{"configs", "reconcile", nil, "configs is below the planner"},
	{"dsl", "configs", []string{"imports:configs/diag", "imports:configs/spec", "imports:configs/addr"}, "dsl imports leaves"},
	{"sources", "configs", []string{"imports:configs/diag", "imports:configs/spec", "imports:configs/addr"}, "sources import leaves"},
	{"sinks", "configs", []string{"imports:configs/diag", "imports:configs/spec", "imports:configs/addr"}, "sinks import leaves"},
	{"sources", "reconcile", nil, "sources import leaves"},
	{"sinks", "reconcile", nil, "sinks import leaves"},
	{"sources", "dsl/eval", nil, "sources import leaves"},
	{"sinks", "dsl/eval", nil, "sinks import leaves"},
}

// vendors may only be imported from the listed folders (tests excepted).
var vendors = map[string][]string{
	"github.com/hashicorp/hcl/v2":   {"configs", "dsl"},
	"github.com/expr-lang/expr":     {"dsl/check", "cmd/internal/bench"},
	"github.com/twmb/franz-go":      {"sources/kafka", "sinks/kafka", "cmd/internal/bench"},
	"github.com/elastic":            {"sinks/elasticsearch", "cmd/internal/bench"},
	"github.com/apache/arrow":       {"sinks/hive", "sources/parquet", "cmd/internal/bench"},
	"gocloud.dev":                   {"sources/hive"},
	"github.com/aws":                {"sources/hive"},
	"github.com/Azure":              {"sources/hive"},
	"github.com/beltran/gohive":     {"sources/hive"},
	"github.com/apache/thrift":      {"sources/hive"},
	"modernc.org/sqlite":            {"reconcile/store"},
	"github.com/cockroachdb":        {"pipeline/state"},
	"github.com/fsnotify/fsnotify":  {"reconcile/watch", "sources/file"},
	"github.com/spf13/cobra":        {"cmd/internal/cli", "cmd/keystone"},
	"github.com/goccy/go-graphviz":  {"cmd"},
	"github.com/prometheus":         {"cmd"},
	"github.com/klauspost/compress": {"sources/file", "sinks/file", "sinks/hive", "sinks/elasticsearch"},
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && !slices.Contains(folders, e.Name()) {
			t.Errorf("%s: only %s belong at the top level", e.Name(), strings.Join(folders, " "))
		}
	}
}

func TestImports(t *testing.T) {
	pkgs, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedImports, Dir: root(t)}, "./...")
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 20 {
		t.Fatalf("only %d packages found", len(pkgs))
	}
	for _, p := range pkgs {
		from := strings.TrimPrefix(p.PkgPath, module)
		for path := range p.Imports {
			if to, ours := strings.CutPrefix(path, module); ours {
				checkOurs(t, from, to)
			} else {
				checkVendor(t, from, path)
			}
		}
	}
}

func checkOurs(t *testing.T, from, to string) {
	if may, leaf := leaves[from]; leaf && !slices.Contains(may, to) {
		t.Errorf("%s is a leaf and imports %s", from, to)
	}
	for _, r := range forbidden {
		if !within(from, r.from) || !within(to, r.to) || within(to, r.from) && r.from != "" {
			continue
		}
		allowed := slices.ContainsFunc(r.but, func(b string) bool {
			if target, is := strings.CutPrefix(b, "imports:"); is {
				return within(to, target)
			}
			return within(from, strings.TrimSuffix(b, "/"))
		})
		if _, leaf := leaves[to]; !allowed && !leaf {
			t.Errorf("%s imports %s: %s", from, to, r.why)
		}
	}
}

func checkVendor(t *testing.T, from, path string) {
	for vendor, may := range vendors {
		if within(path, vendor) && !slices.ContainsFunc(may, func(m string) bool { return within(from, m) }) {
			t.Errorf("%s imports %s, which belongs to %s", from, path, strings.Join(may, ", "))
		}
	}
}

// within tells whether path is folder or below it.
func within(path, folder string) bool {
	folder = strings.TrimSuffix(folder, "/")
	return folder == "" || path == folder || strings.HasPrefix(path, folder+"/")
}

func root(t *testing.T) string {
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
