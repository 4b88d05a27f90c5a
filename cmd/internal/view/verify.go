package view

import (
	"fmt"
	"io"
	"strings"
	"time"

	"keystone/cmd/internal/api"
	"keystone/pipeline/verify"
)

// VerifyProgress writes over a terminal's line how far a verification is.
func VerifyProgress(w io.Writer, s Style, p api.VerifyProgress) {
	line := fmt.Sprintf("reading %s: %s records", p.Phase, Count(p.Read))
	if p.Phase == "open transactions" {
		line = "waiting for open transactions of the sink to end"
	}
	if p.Pass > 1 {
		line += fmt.Sprintf(", pass %d", p.Pass)
	}
	fmt.Fprint(w, "\r\x1b[K"+s.paint(line, dim))
}

// Verified prints what a verification found.
func Verified(w io.Writer, s Style, r api.VerifyReport) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s reads %s (%s) and writes %s; %s\n\n", s.paint(printable(r.Route), bold), printable(r.Source), printable(r.SourceTopic),
		printable(strings.Join(r.Sinks, ", ")), r.Guarantee)
	rows := [][]cell{verifyHead("PARTITION", "OFFSETS", "RECORDS", "DELIVERED", "FILTERED", "DEAD", "DROPPED", "MISSING", "UNEXPECTED", "DIFFERENT", "REPEATED", "REPLAYED", "NOT JUDGED")}
	for i := range r.Partitions {
		rows = append(rows, verifyRow(&r.Partitions[i]))
	}
	if len(r.Partitions) > 1 {
		rows = append(rows, verifyRow(&r.Total))
	}
	if len(r.Partitions) > 0 {
		table(&b, s, rows)
		b.WriteByte('\n')
	}
	for _, e := range r.Examples {
		verifyExample(&b, s, &e)
	}
	if len(r.Examples) > 0 {
		b.WriteByte('\n')
	}
	for _, why := range r.Total.Reasons() {
		fmt.Fprintf(&b, "%s %s: %s\n", s.paint("not judged:", yellow), Count(r.Total.Unjudged[why]), why)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "%s %s\n", s.paint("note:", yellow), printable(n))
	}
	c := green
	if !r.OK {
		c = red
	}
	fmt.Fprintf(&b, "%s %s\n", s.paint(verdictWord(r), bold, c), fmt.Sprintf("(%s records of the sink read in %s)", Count(r.SinkRecords), r.Elapsed.Round(time.Millisecond)))
	_, err := io.WriteString(w, b.String())
	return err
}

func verdictWord(r api.VerifyReport) string {
	if r.Verdict == "" {
		return ""
	}
	return strings.ToUpper(r.Verdict[:1]) + r.Verdict[1:] + "."
}

func verifyHead(names ...string) []cell {
	cells := make([]cell, len(names))
	for i, n := range names {
		cells[i] = cell{text: n, colours: []colour{dim}, right: i >= 2}
	}
	return cells
}

func verifyRow(c *verify.Counts) []cell {
	name, offsets := fmt.Sprint(c.Partition), fmt.Sprintf("%d-%d", c.From, max(c.To-1, c.From))
	if c.Partition < 0 {
		name, offsets = "all", ""
	}
	dropped, unjudged := int64(0), int64(0)
	for _, n := range c.Dropped {
		dropped += n
	}
	for _, n := range c.Unjudged {
		unjudged += n
	}
	bad := func(n int64, col colour) cell {
		out := number(n)
		if n > 0 {
			out.colours = []colour{col, bold}
		}
		return out
	}
	return []cell{text(name), text(offsets), number(c.Records), number(c.Delivered), number(c.Filtered), number(c.DeadLettered), number(dropped),
		bad(c.Missing, red), bad(c.Unexpected, red), bad(c.Different, red), bad(c.Repeated, yellow), number(c.Replayed), bad(unjudged, yellow)}
}

func verifyExample(b *strings.Builder, s Style, e *verify.Example) {
	c := red
	if e.Kind == verify.ExampleRepeated {
		c = yellow
	}
	fmt.Fprintf(b, "%s %s/%d@%d", s.paint(e.Kind+":", c, bold), printable(e.SourceTopic), e.SourcePartition, e.SourceOffset)
	if e.Topic != "" {
		fmt.Fprintf(b, " at %s/%d@%d", printable(e.Topic), e.Partition, e.Offset)
	}
	if e.Text != "" {
		fmt.Fprintf(b, ": %s", printable(e.Text))
	}
	if e.Revision > 0 {
		fmt.Fprintf(b, " %s", s.paint(fmt.Sprintf("(revision %d)", e.Revision), dim))
	}
	b.WriteByte('\n')
}
