package view

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"keystone/cmd/internal/api"
	"keystone/pipeline/deadletter"
)

// LetterCounts prints how many dead letters routes have.
func LetterCounts(w io.Writer, s Style, counts []api.LetterSummary) error {
	var b strings.Builder
	if len(counts) == 0 {
		b.WriteString("There are no dead letters.\n")
	} else {
		rows := [][]cell{{text("ROUTE", dim), {text: "WAITING", colours: []colour{dim}, right: true}, {text: "REPLAYED", colours: []colour{dim}, right: true}, text("CODES", dim), text("IN", dim)}}
		for _, c := range counts {
			waiting := number(c.Waiting)
			if c.Waiting > 0 {
				waiting.colours = []colour{yellow, bold}
			}
			rows = append(rows, []cell{text(c.Addr), waiting, number(c.Replayed), text(codeWords(c)), text(placeWords(c.Places), dim)})
		}
		table(&b, s, rows)
	}
	for _, c := range counts {
		if c.Error != "" {
			fmt.Fprintf(&b, "%s %s\n", s.paint(printable(c.Addr)+":", red, bold), printable(c.Error))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func codeWords(s api.LetterSummary) string {
	var parts []string
	for _, c := range s.Codes {
		parts = append(parts, Count(c.Letters)+" "+c.Code)
	}
	return strings.Join(parts, ", ")
}

// placeWords names topics, and files by their name.
func placeWords(places []string) string {
	var parts []string
	for _, p := range places {
		if strings.HasSuffix(p, ".ndjson") {
			p = filepath.Base(p)
		}
		parts = append(parts, p)
	}
	return strings.Join(parts, ", ")
}

// LetterRows prints letters as a table, a screen of rows at a time.
type LetterRows struct {
	w    io.Writer
	s    Style
	rows [][]cell
	some bool
}

// NewLetterRows makes a table.
func NewLetterRows(w io.Writer, s Style) *LetterRows { return &LetterRows{w: w, s: s} }

// letterRows is how many rows are aligned with each other.
const letterRows = 500

// Add prints one letter.
func (r *LetterRows) Add(l api.DeadLetter) error {
	if !r.some {
		r.some = true
		r.rows = append(r.rows, []cell{text("ID", dim), text("TIME", dim), text("CODE", dim), {text: "TRIES", colours: []colour{dim}, right: true},
			{text: "REPLAYS", colours: []colour{dim}, right: true}, text("STATE", dim), text("ORIGIN", dim), text("ERROR", dim)})
	}
	state := text(l.State, yellow)
	if l.State == api.LetterReplayed {
		state = text(l.State, dim)
	}
	r.rows = append(r.rows, []cell{text(l.ID, bold), text(l.Time.UTC().Format(time.RFC3339)), text(l.Code, red), number(int64(l.Attempts)), number(int64(l.Replays)),
		state, text(origin(l.Letter)), text(short(strings.ReplaceAll(l.Error, "\n", " ")))})
	if len(r.rows) < letterRows {
		return nil
	}
	return r.flush()
}

func (r *LetterRows) flush() error {
	var b strings.Builder
	table(&b, r.s, r.rows)
	r.rows = nil
	_, err := io.WriteString(r.w, b.String())
	return err
}

// End prints the summary.
func (r *LetterRows) End(sum api.LetterSummary) error {
	if err := r.flush(); err != nil {
		return err
	}
	if !r.some {
		if _, err := io.WriteString(r.w, "No dead letter matches.\n"); err != nil {
			return err
		}
		return LetterDoubts(r.w, r.s, sum)
	}
	if _, err := fmt.Fprintf(r.w, "\n%s\n", summary(sum)); err != nil {
		return err
	}
	return LetterDoubts(r.w, r.s, sum)
}

// summary counts letters by code.
func summary(sum api.LetterSummary) string {
	line := letters(sum.Letters)
	if sum.Letters > 0 {
		line += ": " + codeWords(sum)
	}
	if sum.Replayed > 0 {
		line += fmt.Sprintf("; %s of them replayed", Count(sum.Replayed))
	}
	return line
}

func letters(n int64) string {
	if n == 1 {
		return "1 dead letter"
	}
	return Count(n) + " dead letters"
}

func origin(l deadletter.Letter) string {
	return fmt.Sprintf("%s/%d@%d", l.Topic, l.Partition, l.Offset)
}

// LetterDoubts says what could not be judged.
func LetterDoubts(w io.Writer, s Style, sum api.LetterSummary) error {
	var b strings.Builder
	if sum.Uncertain > 0 {
		fmt.Fprintf(&b, "%s -where could not be evaluated on %s, which do not match: the first is %s\n", s.paint("Note:", yellow, bold), letters(sum.Uncertain), printable(sum.UncertainWhy))
	}
	if sum.Broken > 0 {
		fmt.Fprintf(&b, "%s %s records or lines there are no dead letters of Keystone and are left alone\n", s.paint("Note:", yellow, bold), Count(sum.Broken))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// maxShown bounds a value that is no JSON, in bytes.
const maxShown = 1024

// Letter prints one letter whole.
func Letter(w io.Writer, s Style, l api.DeadLetter) error {
	var b strings.Builder
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %s %s\n", s.paint(fmt.Sprintf("%-10s", name), dim), printable(value))
		}
	}
	fmt.Fprintf(&b, "%s in %s\n", s.paint("dead letter "+printable(l.ID), bold), printable(l.Place))
	row("state", l.State)
	row("route", l.Route)
	row("error", l.Code+": "+l.Error)
	row("at", l.At)
	row("attempts", fmt.Sprint(l.Attempts))
	if l.Replays > 0 {
		row("replays", fmt.Sprint(l.Replays))
	}
	row("time", l.Time.UTC().Format(time.RFC3339Nano))
	row("revision", fmt.Sprint(l.Revision))
	row("origin", origin(l.Letter))
	row("topic id", l.Identity)
	if l.Timestamp > 0 {
		row("timestamp", time.UnixMilli(l.Timestamp).UTC().Format(time.RFC3339Nano))
	}
	r := l.Record()
	if r.Key != nil {
		row("key", inline(r.Key))
	}
	for _, h := range r.Headers {
		row("header", h.Key+" = "+inline(h.Value))
	}
	fmt.Fprintf(&b, "  %s\n%s\n", s.paint("value", dim), printable(letterValue(r.Value)))
	_, err := io.WriteString(w, b.String()+"\n")
	return err
}

// inline shows bytes on a line.
func inline(v []byte) string {
	if len(v) > maxShown {
		return fmt.Sprintf("%q… (%s bytes)", v[:maxShown], Count(int64(len(v))))
	}
	return fmt.Sprintf("%q", v)
}

// letterValue shows JSON with indentation, other text as it is and bytes in hex, up to a bound.
func letterValue(v []byte) string {
	var out bytes.Buffer
	switch {
	case v == nil:
		return "    null"
	case json.Indent(&out, v, "    ", "  ") == nil:
		return "    " + out.String()
	}
	rest := ""
	if len(v) > maxShown {
		rest = fmt.Sprintf("    … %s bytes in all; -json has them\n", Count(int64(len(v))))
		v = v[:maxShown]
	}
	dump := hex.Dump(v)
	return "    " + strings.ReplaceAll(strings.TrimSuffix(dump, "\n"), "\n", "\n    ") + "\n" + strings.TrimSuffix(rest, "\n")
}

// Replayed prints what a replay would do, or did.
func Replayed(w io.Writer, s Style, r api.Replayed) error {
	var b strings.Builder
	if r.Plan {
		if r.Letters == 0 {
			fmt.Fprintf(&b, "No dead letter of %s is to be replayed.\n", printable(r.Addr))
		} else {
			fmt.Fprintf(&b, "%s of %s would go through the route again: %s.\n", s.paint(letters(r.Letters), bold), printable(r.Addr), printable(codeWords(r.LetterSummary)))
		}
		leftOut(&b, r)
		for _, n := range r.Notes {
			if r.Letters > 0 {
				fmt.Fprintf(&b, "  %s\n", printable(n))
			}
		}
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
		return LetterDoubts(w, s, r.LetterSummary)
	}
	word := s.paint("Replayed.", bold, green)
	switch {
	case r.Interrupted != "":
		word = s.paint("Interrupted.", bold, red)
	case r.Outcomes["dead_lettered"] > 0:
		word = s.paint("Replayed.", bold, yellow)
	}
	fmt.Fprintf(&b, "%s %s delivered, %s filtered, %s dropped, %s failed again.\n", word, Count(r.Outcomes["delivered"]), Count(r.Outcomes["filtered"]), Count(r.Outcomes["dropped"]), Count(r.Outcomes["dead_lettered"]))
	if r.Same > 0 {
		fmt.Fprintf(&b, "  %s of a record that another one has, which went once\n", letters(r.Same))
	}
	if r.Outcomes["dead_lettered"] > 0 {
		fmt.Fprintf(&b, "  what failed again is a new dead letter: keystone dead-letters list %s\n", printable(r.Addr))
	}
	if r.Interrupted != "" {
		fmt.Fprintf(&b, "  %s\n  what was not replayed stays, and the next replay takes it\n", printable(r.Interrupted))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func leftOut(b *strings.Builder, r api.Replayed) {
	if r.Skipped > 0 {
		fmt.Fprintf(b, "  %s replayed already are left out; -again takes them, too\n", letters(r.Skipped))
	}
	if r.Exhausted > 0 {
		fmt.Fprintf(b, "  %s of records that were replayed as often as -max-replays allows are left out\n", letters(r.Exhausted))
	}
}

// ReplayProgress rewrites one line of a terminal.
func ReplayProgress(w io.Writer, s Style, r api.Replayed, of int64) {
	fmt.Fprintf(w, "\r\x1b[K%s", s.paint(fmt.Sprintf("replayed %s of %s", Count(r.Done()), Count(of)), dim))
	if r.Done() >= of {
		fmt.Fprint(w, "\r\x1b[K")
	}
}

// Purged prints what a purge would do, or did.
func Purged(w io.Writer, s Style, p api.Purged) error {
	var b strings.Builder
	switch {
	case p.Letters == 0:
		fmt.Fprintf(&b, "No dead letter of %s matches.\n", printable(p.Addr))
	case p.Plan:
		fmt.Fprintf(&b, "%s of %s would be %s: %s.\n", s.paint(letters(p.Letters), bold), printable(p.Addr), s.paint("given up for good", red, bold), printable(codeWords(p.LetterSummary)))
		if p.Waiting > 0 {
			fmt.Fprintf(&b, "  %s of them nobody replayed\n", Count(p.Waiting))
		}
	default:
		fmt.Fprintf(&b, "%s %s given up.\n", s.paint("Purged.", bold, green), letters(p.Letters))
		if left := p.Letters - p.Deleted; left > 0 {
			fmt.Fprintf(&b, "  the bytes of %s are deleted when those before them are done with\n", Count(left))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return LetterDoubts(w, s, p.LetterSummary)
}
