package view

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/mitchellh/go-wordwrap"

	"keystone/cmd/internal/api"
)

// Diagnostics prints problems in Terraform's style: summary, place, source
// line with carets under the token, detail with the code.
func Diagnostics(w io.Writer, s Style, ds []api.Diagnostic) error {
	var b strings.Builder
	for _, d := range ds {
		diagnostic(&b, s, d)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func diagnostic(b *strings.Builder, s Style, d api.Diagnostic) {
	word, c := "Error", red
	if d.Severity == "warning" {
		word, c = "Warning", yellow
	}
	bar := s.paint("│", c)
	line := func(text string) {
		if text == "" {
			b.WriteString(bar + "\n")
			return
		}
		b.WriteString(bar + " " + text + "\n")
	}
	b.WriteString(s.paint("╷", c) + "\n")
	line(s.paint(word+": ", c, bold) + s.paint(printable(d.Summary), bold))
	if d.Range != nil {
		line("")
		place(line, s, d)
	}
	detail := printable(d.Detail)
	if detail != "" || d.Code != "" {
		line("")
		if d.Code != "" {
			detail = strings.TrimSpace(detail + " [" + d.Code + "]")
		}
		if s.Width > 4 {
			detail = wordwrap.WrapString(detail, uint(s.Width-3))
		}
		for text := range strings.SplitSeq(detail, "\n") {
			line(text)
		}
	}
	b.WriteString(s.paint("╵", c) + "\n")
}

// place prints where a problem is. The carets stand in a line of their own:
// they survive a pipe, colours do not.
func place(line func(string), s Style, d api.Diagnostic) {
	if d.Range.Start.Line == 0 { // the file as a whole, or no file at all
		line("  on " + printable(d.Range.File))
		return
	}
	where := fmt.Sprintf("  on %s line %d", printable(d.Range.File), d.Range.Start.Line)
	if d.Snippet == nil {
		if d.Range.Start.Column > 1 {
			where += ", column " + strconv.Itoa(d.Range.Start.Column)
		}
		line(where)
		return
	}
	sn := d.Snippet
	if sn.Context != nil {
		where += ", in " + printable(*sn.Context)
	}
	line(where + ":")
	before, mid, after := sn.Code[:sn.HighlightStartOffset], sn.Code[sn.HighlightStartOffset:sn.HighlightEndOffset], sn.Code[sn.HighlightEndOffset:]
	before, mid, after = printable(before), printable(mid), printable(after)
	if s.Width > 0 {
		before, mid, after = clip(before, mid, after, s.Width-12)
	}
	number := fmt.Sprintf("%4d: ", sn.StartLine)
	line(number + before + s.paint(mid, bold) + after)
	line(strings.Repeat(" ", len(number)) + blank(before) + s.paint(strings.Repeat("^", max(columns(mid), 1)), bold))
}

// blank gives white space as wide as text, keeping its tabs.
func blank(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\t' {
			b.WriteByte('\t')
			continue
		}
		b.WriteString(strings.Repeat(" ", runeColumns(r)))
	}
	return b.String()
}

// clip shortens a source line to the room that a terminal has, around the token.
func clip(before, mid, after string, room int) (string, string, string) {
	const mark = "…"
	if room < 20 || columns(before)+columns(mid)+columns(after) <= room {
		return before, mid, after
	}
	if m := []rune(mid); len(m) > room/2 {
		mid = string(m[:room/2]) + mark
	}
	if b := []rune(before); len(b) > room/3 {
		before = mark + string(b[len(b)-room/3:])
	}
	if a, left := []rune(after), max(room-columns(before)-columns(mid), 0); len(a) > left {
		after = string(a[:left]) + mark
	}
	return before, mid, after
}
