package view

import (
	"fmt"
	"io"
	"strings"

	"keystone/cmd/internal/api"
)

// Rewound prints what a rewind would do.
func Rewound(w io.Writer, s Style, r api.Rewound) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s goes on elsewhere in %s (%s):\n\n", s.paint(printable(r.Addr), bold), printable(r.Source), printable(r.How))
	rows := [][]cell{{text("PARTITION", dim), {text: "FROM", colours: []colour{dim}, right: true}, {text: "TO", colours: []colour{dim}, right: true},
		{text: "REPEATED", colours: []colour{dim}, right: true}, {text: "SKIPPED", colours: []colour{dim}, right: true}, text("")}}
	for _, p := range r.Partitions {
		from := cell{text: "-", colours: []colour{dim}, right: true}
		if p.From >= 0 {
			from = number(p.From)
		}
		skipped := number(p.Skipped)
		if p.Skipped > 0 {
			skipped.colours = []colour{red, bold}
		}
		rows = append(rows, []cell{text(fmt.Sprint(p.Partition)), from, number(p.To), number(p.Repeated), skipped, text(p.Name, dim)})
	}
	table(&b, s, rows)
	b.WriteByte('\n')
	if !r.Moves() {
		b.WriteString("Nothing to do: it is there already.\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	if r.Repeated > 0 {
		fmt.Fprintf(&b, "  at most %s %s are read and delivered again\n", Count(r.Repeated), r.Unit)
	}
	if r.Skipped > 0 {
		fmt.Fprintf(&b, "  %s %s %s that were not delivered never will be\n", s.paint("SKIPS", bold, red), Count(r.Skipped), r.Unit)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "  %s\n", printable(n))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// RewindDone prints what came of a rewind.
func RewindDone(w io.Writer, s Style, r api.Rewound) error {
	text := "Nothing to do: it is there already.\n"
	if r.ID != "" {
		text = fmt.Sprintf("%s %s goes on from there. `keystone status` tells how it does.\n", s.paint("Rewound.", bold, green), printable(r.Addr))
	}
	_, err := io.WriteString(w, text)
	return err
}
