package view

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"keystone/cmd/internal/api"
)

// Operated prints what a verb does to routes, or did.
func Operated(w io.Writer, s Style, o api.Operated) error {
	var b strings.Builder
	for _, r := range o.Routes {
		operation(&b, s, o, r)
	}
	switch {
	case o.Due() == 0 && len(o.Routes) > 0:
		b.WriteString("Nothing to do.\n")
	case o.Plan:
	case o.Failed() > 0:
		b.WriteString(s.paint(fmt.Sprintf("Failed for %d of %d routes.", o.Failed(), o.Due()), bold, red) + "\n")
	case o.Offline:
		b.WriteString("No server runs: it counts when `keystone serve` starts.\n")
	default:
		b.WriteString("`keystone status` tells how it does.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func operation(b *strings.Builder, s Style, o api.Operated, r api.Operation) {
	fmt.Fprintf(b, "%s ", s.paint(printable(r.Addr)+":", bold))
	if r.Does == "" {
		fmt.Fprintf(b, "is %s: nothing to do\n", printable(r.Now))
		return
	}
	fmt.Fprintf(b, "%s %s\n", printable(r.Does), s.paint("(is "+printable(r.Now)+")", dim))
	if o.Plan {
		for _, n := range r.Notes {
			fmt.Fprintf(b, "    %s\n", printable(n))
		}
		for _, l := range r.Loses {
			fmt.Fprintf(b, "    %s %s\n", s.paint("LOSES", bold, red), printable(l))
		}
	}
	if r.Error != "" {
		fmt.Fprintf(b, "    %s %s\n", s.paint("failed:", red), printable(r.Error))
	}
}

// Audit prints lines of the audit, which come latest first, with the latest last.
func Audit(w io.Writer, s Style, lines []api.AuditLine) error {
	var b strings.Builder
	if len(lines) == 0 {
		b.WriteString("Nothing was done yet.\n")
	}
	rows := [][]cell{{text("TIME", dim), text("WHO", dim), text("ACTION", dim), text("ADDRESS", dim), text("REVISION", dim), text("DETAIL", dim)}}
	for _, l := range slices.Backward(lines) {
		serial := ""
		if l.Serial > 0 {
			serial = Count(l.Serial)
		}
		rows = append(rows, []cell{text(l.Time.Local().Format("2006-01-02 15:04:05")), text(l.Who), text(l.Action), text(l.Addr), text(serial), text(l.Detail)})
	}
	if len(lines) > 0 {
		table(&b, s, rows)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
