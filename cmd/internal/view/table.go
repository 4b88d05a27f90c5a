package view

import "strings"

// cell is text with the colours it is shown in.
type cell struct {
	text    string
	colours []colour
	right   bool
}

func text(s string, cs ...colour) cell { return cell{text: printable(s), colours: cs} }
func number(n int64) cell              { return cell{text: Count(n), right: true} }

// table aligns rows by the columns that their text takes on a terminal.
func table(b *strings.Builder, s Style, rows [][]cell) {
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columns(c.text))
		}
	}
	for _, r := range rows {
		var line strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", widths[i]-columns(c.text))
			if i > 0 {
				line.WriteString("  ")
			}
			if c.right {
				line.WriteString(pad + s.paint(c.text, c.colours...))
				continue
			}
			line.WriteString(s.paint(c.text, c.colours...) + pad)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}
