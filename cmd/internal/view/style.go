// Package view is what commands print: for people and as JSON. It decides
// nothing and reads nothing; what it prints is a function of its arguments.
package view

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

// Style is how text for people looks. The zero Style is plain: no colour, no
// wrapping, as suits a pipe.
type Style struct {
	Color bool
	Width int // columns to wrap at; 0: never
}

// Choice is what a user says about colour.
type Choice uint8

const (
	// Auto colours terminals only, unless NO_COLOR is set or TERM is dumb.
	Auto Choice = iota
	// Never is -no-color.
	Never
)

// StyleOf gives the style for a stream.
func StyleOf(w io.Writer, c Choice, getenv func(string) string) Style {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return Style{}
	}
	s := Style{Color: c == Auto && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb", Width: 80}
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
		s.Width = w
	}
	return s
}

type colour string

const (
	bold   colour = "\x1b[1m"
	dim    colour = "\x1b[2m"
	red    colour = "\x1b[31m"
	green  colour = "\x1b[32m"
	yellow colour = "\x1b[33m"
	blue   colour = "\x1b[34m"
	cyan   colour = "\x1b[36m"
)

func (s Style) paint(text string, cs ...colour) string {
	if !s.Color || text == "" {
		return text
	}
	var b strings.Builder
	for _, c := range cs {
		b.WriteString(string(c))
	}
	b.WriteString(text)
	b.WriteString("\x1b[0m")
	return b.String()
}

// columns is how wide text is on a terminal: East Asian wide characters take two columns.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	switch {
	case r == utf8.RuneError || r >= ' ' && r < 0x300:
		return 1
	case r < ' ' || r == 0x7f || r >= 0x300 && r < 0x370 || r == 0x200d || r >= 0xfe00 && r <= 0xfe0f:
		return 0
	}
	if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth || r >= 0x1f300 && r < 0x1fb00 {
		return 2
	}
	return 1
}

// printable makes text from files and brokers safe to show: control
// characters, which could move a terminal's cursor or change its title, are escaped.
func printable(s string) string {
	clean := true
	for _, r := range s {
		if unsafeRune(r) {
			clean = false
			break
		}
	}
	if clean && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unsafeRune(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func unsafeRune(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}
