package docs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"keystone/cmd/internal/api"
	"keystone/configs/diag"
	"keystone/dsl/ir"
)

func functionsPage(fs []*ir.Func) Page {
	p := Page{File: "functions.md", Title: "Functions", Intro: "The functions of expressions. Each example is run by the tests."}
	fs = slices.Clone(fs)
	slices.SortFunc(fs, func(a, b *ir.Func) int { return cmp.Compare(a.Name, b.Name) })
	for _, f := range fs {
		p.Sections = append(p.Sections, Section{Name: f.Name, Body: functionBody(f)})
	}
	return p
}

func aggregatesPage(as []*ir.Aggregate) Page {
	p := Page{File: "aggregates.md", Title: "Aggregates", Intro: "What `aggregate = {…}` of a job's windows and aggregates computes of the rows of a key. " +
		"The last argument of each may be `where(CONDITION)`: only rows for which it is true count. Aggregates are combined by arithmetic and functions: `sum(a) / count()`. " +
		"The functions of lists of the same name are written with two colons there: `::count(tags, # == 'a')`.\n\n" +
		"A row whose argument is nil does not count. No result depends on the order in which rows arrive."}
	as = slices.Clone(as)
	slices.SortFunc(as, func(a, b *ir.Aggregate) int { return cmp.Compare(a.Name, b.Name) })
	for _, a := range as {
		var b strings.Builder
		fmt.Fprintf(&b, "```\n%s\n```\n\n%s\n\n| Expression | x of the rows | Value |\n|---|---|---|\n", a.Signature, a.Doc)
		for _, e := range a.Examples {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", codeCell(e.Expr), codeCell(e.Rows), codeCell(e.Want))
		}
		p.Sections = append(p.Sections, Section{Name: "aggregate " + a.Name, Body: b.String()})
	}
	return p
}

func functionBody(f *ir.Func) string {
	var b strings.Builder
	fmt.Fprintf(&b, "```\n%s\n```\n\n%s\n", f.Signature, strings.TrimSpace(f.Doc))
	if f.Nil == ir.NilGivesNil {
		b.WriteString("\nA nil argument gives nil.\n")
	}
	if f.NotInJobs {
		b.WriteString("\nNot in jobs.\n")
	}
	if len(f.Examples) > 0 {
		b.WriteString("\n| Expression | Event | Value |\n|---|---|---|\n")
	}
	for _, e := range f.Examples {
		want := codeCell(e.Want)
		if e.Error != "" {
			want = "error: " + cell(e.Error)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", codeCell(e.Expr), codeCell(e.Event), want)
	}
	return b.String()
}

func diagnosticsPage(codes []diag.Code) Page {
	p := Page{File: "diagnostics.md", Title: "Diagnostics", Intro: "Every problem that Keystone reports about a configuration or a record has a code.\n" +
		"KS1: files and blocks. KS2: expressions. KS3: options and what blocks mean together. KS4: sources. KS5: sinks. KS6: records at run time."}
	codes = slices.Clone(codes)
	slices.SortFunc(codes, func(a, b diag.Code) int { return cmp.Compare(a.Code, b.Code) })
	for _, c := range codes {
		p.Sections = append(p.Sections, Section{Name: c.Code, Body: "**" + strings.TrimSpace(c.Summary) + ".** " + strings.TrimSpace(c.Doc)})
	}
	return p
}

func metricsPage(ms []api.Metric) Page {
	p := Page{File: "metrics.md", Title: "Metrics", Intro: "What `/metrics` shows in Prometheus' form, beside the usual metrics of a Go process (`go_…`, `process_…`).\n" +
		"Counters of a route begin again with its worker."}
	for _, m := range ms {
		body := m.Doc + "\n\nType: " + m.Type + "."
		if len(m.Labels) > 0 {
			body += " Labels: `" + strings.Join(m.Labels, "`, `") + "`."
		}
		p.Sections = append(p.Sections, Section{Name: m.Name, Body: body})
	}
	return p
}

func cliPage(in Input) Page {
	p := Page{File: "cli.md", Title: "Command line", Intro: "Flags are written `-flag` or `--flag`, before or after the arguments. A command about a configuration takes its directory\n" +
		"as last argument, else the current one.\n\nFlags of every command:\n\n" + flagsTable(in.Global) + "\nExit codes of every command:\n\n| Code | |\n|---|---|\n"}
	for _, e := range in.Exits {
		p.Intro += fmt.Sprintf("| %d | %s |\n", e.Code, cell(e.Doc))
	}
	for _, c := range in.Commands {
		body := "```\n" + c.Use + "\n```\n\n" + strings.TrimSpace(c.Doc) + "\n"
		if len(c.Flags) > 0 {
			body += "\n" + flagsTable(c.Flags)
		}
		if c.Example != "" {
			body += "\n```sh\n" + unindent(c.Example) + "\n```\n"
		}
		p.Sections = append(p.Sections, Section{Name: c.Name, Body: body})
	}
	return p
}

func flagsTable(fs []Flag) string {
	var b strings.Builder
	b.WriteString("| Flag | Default | |\n|---|---|---|\n")
	for _, f := range fs {
		name := "-" + f.Name
		if f.Value != "" {
			name += " " + f.Value
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, codeCell(f.Default), cell(f.Doc))
	}
	return b.String()
}

func unindent(s string) string {
	lines := strings.Split(strings.Trim(s, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}
