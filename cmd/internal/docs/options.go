package docs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/configs"
	"keystone/configs/diag"
	"keystone/configs/spec"
)

func blocksPage(blocks []configs.BlockDoc) Page {
	p := Page{File: "blocks.md", Title: "Blocks", Intro: "The blocks of `*.ks.hcl` files. *Change* says what changing an option does to what runs:\n" +
		"`live` is swapped in and nothing stops, `drain` finishes what is in flight and restarts in place, `replace` loses what was kept."}
	for _, b := range blocks {
		if b.Kind == "" {
			p.Sections = append(p.Sections, Section{Name: b.Type, Body: blockBody(b)})
		}
	}
	p.Sections = append(p.Sections,
		Section{Name: "source", Body: "Where events come from, beside streams. The options are those of its kind: see [sources](sources.md)."},
		Section{Name: "sink", Body: "Where events go, beside streams. The options are those of its kind: see [sinks](sinks.md)."})
	slices.SortStableFunc(p.Sections, func(a, b Section) int { return cmp.Compare(a.Name, b.Name) })
	return p
}

func kindsPage(file, title, intro, typ string, blocks []configs.BlockDoc) Page {
	p := Page{File: file, Title: title, Intro: intro}
	for _, b := range blocks {
		if b.Type == typ && b.Kind != "" {
			p.Sections = append(p.Sections, Section{Name: typ + " " + b.Kind, Body: blockBody(b)})
		}
	}
	slices.SortStableFunc(p.Sections, func(a, b Section) int { return cmp.Compare(a.Name, b.Name) })
	return p
}

func blockBody(b configs.BlockDoc) string {
	var s strings.Builder
	s.WriteString("`" + b.Header + " { … }`\n\n" + strings.TrimSpace(b.Doc) + "\n")
	if b.ForEach {
		s.WriteString("\nWith `for_each = {…}` or a list of distinct strings there is one instance for each key.\n")
	}
	if len(b.Words) > 0 {
		s.WriteString("\n| Name | |\n|---|---|\n")
	}
	for _, w := range b.Words {
		fmt.Fprintf(&s, "| `%s` | %s |\n", cell(w.Name), cell(w.Doc))
	}
	s.WriteString(optionsTable(b.Options))
	if b.Example != "" {
		s.WriteString("\n```hcl\n" + strings.TrimSpace(b.Example) + "\n```\n")
	}
	return s.String()
}

// optionsTable lists options, and those of nested blocks after them.
func optionsTable(o spec.Options) string {
	if len(o) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n| Option | Type | Default | Change | |\n|---|---|---|---|---|\n")
	optionRows(&b, "", o)
	enums(&b, "", o)
	for _, x := range o {
		if x.Kind == spec.KindLabelled { // a table of its own
			fmt.Fprintf(&b, "\n### %s\n\n`%s \"NAME\" { … }`\n\n%s\n\n| Option | Type | Default | Change | |\n|---|---|---|---|---|\n", x.Name, x.Name, strings.TrimSpace(x.Doc))
			optionRows(&b, x.Name+".NAME.", x.Each("name"))
		}
	}
	return b.String()
}

func optionRows(b *strings.Builder, prefix string, o spec.Options) {
	for _, x := range o {
		if x.Kind == spec.KindLabelled {
			fmt.Fprintf(b, "| `%s%s \"NAME\" { }` | block | %s | | %s |\n", prefix, x.Name, defaultOf(x), cell(x.Doc))
			if prefix != "" {
				optionRows(b, prefix+x.Name+".NAME.", x.Each("name"))
			}
			continue
		}
		if x.Kind == spec.KindBlock {
			fmt.Fprintf(b, "| `%s%s { }` | block | | | %s |\n", prefix, x.Name, cell(x.Doc))
			optionRows(b, prefix+x.Name+".", x.Block)
			continue
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s | %s |\n", prefix, x.Name, cell(typeOf(x)), defaultOf(x), x.Change, cell(docOf(x)))
	}
}

func enums(b *strings.Builder, prefix string, o spec.Options) {
	for _, x := range o {
		if x.Kind == spec.KindBlock {
			enums(b, prefix+x.Name+".", x.Block)
		}
		if len(x.EnumDoc) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n`%s%s` is one of:\n\n", prefix, x.Name)
		for _, word := range x.Enum {
			fmt.Fprintf(b, "- `%q`: %s\n", word, cell(x.EnumDoc[word]))
		}
	}
}

func docOf(x *spec.Option) string {
	s := x.Doc
	if r := rangeOf(x); r != "" {
		s += " " + r
	}
	if x.Example != "" {
		s += " Example: `" + x.Example + "`."
	}
	return s
}

func typeOf(x *spec.Option) string {
	switch x.Kind {
	case spec.KindString:
		return "string"
	case spec.KindBool:
		return "bool"
	case spec.KindInt:
		return "int"
	case spec.KindFloat:
		return "number"
	case spec.KindDuration:
		return "duration"
	case spec.KindBytes:
		return "size"
	case spec.KindStrings:
		return "list of strings"
	case spec.KindStringMap:
		return "map of strings"
	case spec.KindEnum:
		words := make([]string, len(x.Enum))
		for i, w := range x.Enum {
			words[i] = strconv.Quote(w)
		}
		return strings.Join(words, ", ")
	case spec.KindExpr:
		return "expression" + over(x)
	case spec.KindExprs:
		return "expression, or a list of them" + over(x)
	case spec.KindExprMap:
		return "`{ name = \"expression\" }`" + over(x)
	case spec.KindPattern:
		return "pattern" + over(x)
	case spec.KindRef:
		return "reference to " + strings.Join(x.Refs, " or ")
	case spec.KindType:
		return "type"
	case spec.KindPort:
		return "operator"
	case spec.KindPorts:
		return "list of operators"
	case spec.KindSecret:
		return "secret"
	}
	return "block"
}

func over(x *spec.Option) string {
	if x.Output {
		return " over the output event"
	}
	return ""
}

func defaultOf(x *spec.Option) string {
	if x.IsRequired {
		return "*required*"
	}
	if !x.HasDefault {
		return ""
	}
	return codeCell(literal(x.Kind, x.DefaultVal))
}

// literal writes a default as HCL.
func literal(k spec.Kind, v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case time.Duration:
		return strconv.Quote(spec.FormatDuration(v))
	case diag.Text:
		return strconv.Quote(v.S)
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case int64:
		if k == spec.KindBytes {
			return strconv.Quote(spec.FormatBytes(v))
		}
	case int:
		if k == spec.KindBytes {
			return strconv.Quote(spec.FormatBytes(int64(v)))
		}
	}
	if k == spec.KindEnum {
		return strconv.Quote(fmt.Sprint(v))
	}
	return fmt.Sprint(v)
}

func rangeOf(x *spec.Option) string {
	show := func(f float64) string {
		switch x.Kind {
		case spec.KindDuration:
			return spec.FormatDuration(time.Duration(f * float64(time.Second)))
		case spec.KindBytes:
			return spec.FormatBytes(int64(f))
		}
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	switch {
	case x.HasMin && x.HasMax:
		return "From " + show(x.Min) + " to " + show(x.Max) + "."
	case x.HasMin:
		return "At least " + show(x.Min) + "."
	case x.HasMax:
		return "At most " + show(x.Max) + "."
	}
	return ""
}
