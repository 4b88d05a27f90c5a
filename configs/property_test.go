package configs_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keystone/configs"
	"keystone/configs/spec"
)

// genOption writes a value that the option takes.
func genOption(t *rapid.T, o *spec.Option) string {
	number := func(lo, hi float64) float64 {
		if o.HasMin {
			lo = max(lo, o.Min)
		}
		if o.HasMax {
			hi = min(hi, o.Max)
		}
		return math.Floor(rapid.Float64Range(math.Ceil(lo), hi).Draw(t, o.Name))
	}
	switch o.Kind {
	case spec.KindBool:
		return strconv.FormatBool(rapid.Bool().Draw(t, o.Name))
	case spec.KindInt:
		return strconv.FormatInt(int64(number(-1e6, 1e6)), 10)
	case spec.KindFloat:
		return strconv.FormatFloat(number(-1e6, 1e6), 'f', -1, 64)
	case spec.KindDuration:
		return strconv.Quote(spec.FormatDuration(time.Duration(number(1, 1e6)) * time.Second))
	case spec.KindBytes:
		n := int64(number(1, 1<<40))
		return rapid.SampledFrom([]string{strconv.FormatInt(n, 10), strconv.Quote(spec.FormatBytes(n))}).Draw(t, o.Name)
	case spec.KindStrings:
		return fmt.Sprintf("[%q, upper(\"b\")]", rapid.StringMatching(`[a-z]{0,5}`).Draw(t, o.Name))
	case spec.KindStringMap:
		return fmt.Sprintf("{ %q = \"v\", b = each.key }", rapid.StringMatching(`[c-z]{1,5}`).Draw(t, o.Name))
	case spec.KindEnum:
		return strconv.Quote(rapid.SampledFrom(o.Enum).Draw(t, o.Name))
	case spec.KindExpr:
		return rapid.SampledFrom([]string{`"a"`, `"each.key"`, "<<-E\n  a +\n    'ü'\n  E\n"}).Draw(t, o.Name)
	case spec.KindExprs:
		if o.Name == "drop" {
			return `["b", "c.d"]`
		}
		return rapid.SampledFrom([]string{`"a == 'x'"`, `["a != \"é\"", "n in [1, 2.5, each.value]"]`, `local.shared`, `[local.shared]`}).Draw(t, o.Name)
	case spec.KindExprMap:
		return rapid.SampledFrom([]string{`{ x = "a", "y" = 2, z = true, w = -1.5 }`, `local.fields`, `{ x = "each.value", }`}).Draw(t, o.Name)
	case spec.KindPattern:
		return rapid.SampledFrom([]string{`"p-{a}"`, `"p-${each.key}"`, `"{{x"`}).Draw(t, o.Name)
	case spec.KindType:
		return rapid.SampledFrom([]string{`object({ a = string, n = optional(int), b = any, c = map(any), u = list(sensitive(decimal(10, 2))) })`, `local.event`, `any`}).Draw(t, o.Name)
	case spec.KindSecret:
		return rapid.SampledFrom([]string{`env("A")`, `file("b")`, `"x ${env("A")}${var.s}"`, `var.s`}).Draw(t, o.Name)
	case spec.KindString:
		return strconv.Quote(rapid.StringMatching(`[a-z0-9]{1,9}`).Draw(t, o.Name))
	}
	return ""
}

func genBody(t *rapid.T, opts spec.Options, skip string, b *strings.Builder) {
	for _, o := range opts {
		if strings.Contains(" "+skip+" ", " "+o.Name+" ") || !o.IsRequired && rapid.Bool().Draw(t, "leave out "+o.Name) {
			continue
		}
		if o.Kind == spec.KindBlock {
			fmt.Fprintf(b, "%s {\n", o.Name)
			genBody(t, o.Block, skip, b)
			b.WriteString("}\n")
		} else if v := genOption(t, o); v != "" {
			fmt.Fprintf(b, "%s = %s\n", o.Name, v)
		}
	}
}

// TestStoreKeepsEverything loads random valid configurations that use every
// form of option, and reads them again from the JSON that the store keeps.
func TestStoreKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	loaded := 0
	rapid.Check(t, func(rt *rapid.T) {
		var b strings.Builder
		b.WriteString(`
variable "s" {
  type      = string
  sensitive = true
}
locals {
  shared = "b.x ?? a == each.key"
  fields = { z = "a", o = { p = "1 + 1" } }
  event  = object({ a = string, b = any, c = any, n = any })
}
source "generator" "g" {}
`)
		for _, block := range []struct{ header, skip string }{
			{`stream "s"`, "external topic cluster config schema"},
			{`sink "file" "f"`, ""},
		} {
			opts := configs.Blocks(testCatalog())
			for _, doc := range opts {
				if strings.HasPrefix(block.header, strings.TrimSuffix(doc.Header, ` "NAME"`)) {
					fmt.Fprintf(&b, "%s {\nfor_each = { k = 1, \"l m\" = 2.5 }\n", block.header)
					if strings.HasPrefix(block.header, "stream") {
						b.WriteString("topic = \"t${each.value}\"\n")
					}
					genBody(rt, doc.Options, block.skip, &b)
					b.WriteString("}\n")
				}
			}
		}
		var route configs.Route
		skip := "from to dead_letter start set drop guarantee format decode"
		if rapid.Bool().Draw(rt, "set rather than project") {
			skip = "from to dead_letter start project guarantee format decode"
		}
		b.WriteString("route \"r\" {\nfor_each = { k = 1, \"l m\" = 2.5 }\nfrom = source.g\n")
		fmt.Fprintf(&b, "to = %s[each.key]\n", rapid.SampledFrom([]string{"stream.s", "sink.f"}).Draw(rt, "to"))
		genBody(rt, route.Options(), skip, &b)
		b.WriteString("}\n")
		if err := os.WriteFile(filepath.Join(dir, "main.ks.hcl"), []byte(b.String()), 0o600); err != nil {
			rt.Fatal(err)
		}
		c, diags := configs.Load(configs.LoadOptions{Dir: dir, Catalog: testCatalog()})
		for _, d := range diags {
			if d.Severity == "error" && d.Code[:3] != "KS2" && d.Summary != "Contradiction" {
				rt.Fatalf("%v\n%s", d, b.String())
			}
		}
		if c != nil {
			loaded++
			roundTrip(t, c)
		}
	})
	if loaded < 10 { // some are not: random options contradict each other
		t.Errorf("only %d of the random configurations were valid", loaded)
	}
}
