package doctest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"keystone/cmd/internal/wire"
	"keystone/configs"
	"keystone/configs/diag"
)

// elsewhere are the codes of errors that a part of a configuration has
// because the rest of it is not there: unknown references, moved and removed blocks.
var elsewhere = []string{"KS1106", "KS2012", "KS3105"}

// TestBlocks holds each block of HCL to the form that `keystone fmt` writes.
// One with a route or job is a whole configuration and loads without errors; one
// without, or with the word "part" behind the fence, may lack what stands
// elsewhere and nothing else, as does every example of the reference. "body" says that it is the inside of a block, which is
// only formatted, and "wrong" that it shows a mistake: then it must not load.
func TestBlocks(t *testing.T) {
	whole, parts := 0, 0
	for _, p := range pages(t) {
		blocks, _ := p.blocks(t)
		for _, b := range blocks {
			if !b.is("hcl") {
				continue
			}
			t.Run(fmt.Sprintf("%s:%d", b.page, b.line), func(t *testing.T) {
				formatted(t, b)
				if b.is("body") {
					return
				}
				isWhole := !b.is("part") && !strings.HasPrefix(b.page, referenceDir) && hasRoute(t, b)
				wrong := 0
				for _, d := range load(t, b) {
					if d.Severity != diag.Error || !isWhole && slices.Contains(elsewhere, d.Code) {
						continue
					}
					wrong++
					if !b.is("wrong") {
						t.Errorf("line %d: %s: %s [%s]", b.line+d.Range.Start.Line-1, d.Summary, d.Detail, d.Code)
					}
				}
				switch {
				case b.is("wrong") && wrong == 0:
					t.Error("nothing is wrong with this block")
				case isWhole:
					whole++
				default:
					parts++
				}
			})
		}
	}
	if whole < 5 || parts < 5 {
		t.Errorf("only %d whole configurations and %d parts were found", whole, parts)
	}
}

func formatted(t *testing.T, b block) {
	t.Helper()
	got, diags := configs.Format("main.ks.hcl", []byte(b.text))
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	if string(got) != b.text {
		t.Errorf("not in the form of keystone fmt, which is\n%s", got)
	}
}

func hasRoute(t *testing.T, b block) bool {
	t.Helper()
	f, diags := hclsyntax.ParseConfig([]byte(b.text), "main.ks.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return slices.ContainsFunc(f.Body.(*hclsyntax.Body).Blocks, func(b *hclsyntax.Block) bool { return b.Type == "route" || b.Type == "job" })
}

func load(t *testing.T, b block) diag.Diagnostics {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.ks.hcl"), []byte(b.text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, diags := configs.Load(configs.LoadOptions{Dir: dir, Catalog: wire.Catalog()})
	return diags
}
