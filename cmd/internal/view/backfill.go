package view

import (
	"fmt"
	"io"
	"strings"
	"time"

	"keystone/cmd/internal/api"
	"keystone/reconcile"
)

// BackfillPlan prints what a backfill would read.
func BackfillPlan(w io.Writer, s Style, b api.Backfilling) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s would be run over %s:\n\n", s.paint(printable(b.Addr), bold), printable(b.Source))
	fmt.Fprintf(&out, "  %s %s in %s %s, %s\n", Count(b.Rows), plural(b.Rows, "row", "rows"), Count(int64(b.Files)), plural(int64(b.Files), "file", "files"), Bytes(b.Bytes))
	if left := b.Total - b.Rows; left > 0 {
		fmt.Fprintf(&out, "  %s further %s of these files are not read: none can pass\n", Count(left), plural(left, "row", "rows"))
	}
	for _, x := range []struct {
		what string
		at   time.Time
	}{{"since", b.Since}, {"until", b.Until}} {
		if !x.at.IsZero() {
			fmt.Fprintf(&out, "  %s %s\n", x.what, x.at.UTC().Format(time.RFC3339))
		}
	}
	if b.Rate > 0 {
		fmt.Fprintf(&out, "  at most %s rows a second: at least %s\n", Count(b.Rate), Age(time.Duration(b.LeftMs)*time.Millisecond))
	} else {
		out.WriteString("  as fast as the route and its sink leave room for\n")
	}
	for _, n := range b.Notes {
		fmt.Fprintf(&out, "  %s\n", printable(n))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// Bytes writes a size for people: 208 KiB, 1.3 GiB.
func Bytes(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	x, units := float64(n), []string{"KiB", "MiB", "GiB", "TiB", "PiB"}
	for i, u := range units {
		if x /= 1 << 10; x < 1<<10 || i == len(units)-1 {
			if x < 10 {
				return fmt.Sprintf("%.1f %s", x, u)
			}
			return fmt.Sprintf("%.0f %s", x, u)
		}
	}
	return ""
}

// BackfillLine is how a backfill stands, in a line for a terminal.
func BackfillLine(b api.Backfilling) string {
	text := fmt.Sprintf("%s: %s of %s rows", printable(b.Addr), Count(processedRows(b)), Count(b.Rows))
	if b.Rows > 0 {
		text += fmt.Sprintf(" (%d %%)", min(100, processedRows(b)*100/b.Rows))
	}
	if b.LeftMs > 0 {
		text += ", about " + Age(time.Duration(b.LeftMs)*time.Millisecond) + " left"
	}
	if b.Activity != "" {
		text += "; " + printable(short(b.Activity))
	}
	return text
}

func processedRows(b api.Backfilling) (n int64) {
	for _, c := range b.Counts {
		n += c
	}
	return n
}

// BackfillDone prints what came of a backfill.
func BackfillDone(w io.Writer, s Style, b api.Backfilling) error {
	var out strings.Builder
	switch b.Phase {
	case reconcile.BackfillFinished:
		out.WriteString(s.paint("Finished.", bold, green))
	case reconcile.BackfillCancelled:
		out.WriteString(s.paint("Cancelled.", bold, yellow))
	default:
		out.WriteString(s.paint("Failed.", bold, red))
	}
	fmt.Fprintf(&out, " %s: %s %s read, %s delivered, %s filtered", printable(b.Addr), Count(processedRows(b)), plural(processedRows(b), "row", "rows"), Count(b.Counts["delivered"]), Count(b.Counts["filtered"]))
	for _, x := range []string{"dead_lettered", "dropped"} {
		if n := b.Counts[x]; n > 0 {
			fmt.Fprintf(&out, ", %s %s", Count(n), s.paint(strings.ReplaceAll(x, "_", "-"), red))
		}
	}
	out.WriteString(".\n")
	if b.Error != "" {
		out.WriteString(printable(b.Error) + "\n")
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// Backfills prints backfills as a table.
func Backfills(w io.Writer, s Style, list []api.Backfilling, now time.Time) error {
	var out strings.Builder
	if len(list) == 0 {
		out.WriteString("There was no backfill yet.\n")
	} else {
		rows := [][]cell{head("ROUTE", "PHASE", "FOR", "ROWS", "OF", "DELIVERED", "FILTERED", "DEAD", "LEFT", "DOES")}
		for _, b := range list {
			until := now
			if !b.Ended.IsZero() {
				until = b.Ended
			}
			left := cell{text: "-", colours: []colour{dim}, right: true}
			if b.LeftMs > 0 {
				left = cell{text: Age(time.Duration(b.LeftMs) * time.Millisecond), right: true}
			}
			rows = append(rows, []cell{text(b.Addr), text(string(b.Phase), phaseColour(b.Phase)), text(Age(until.Sub(b.At))), number(processedRows(b)), number(b.Rows),
				number(b.Counts["delivered"]), number(b.Counts["filtered"]), number(b.Counts["dead_lettered"]), left, text(short(b.Activity))})
		}
		table(&out, s, rows)
		for _, b := range list {
			if b.Error != "" {
				fmt.Fprintf(&out, "\n%s %s\n", s.paint(printable(b.Addr)+":", red, bold), printable(b.Error))
			}
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func phaseColour(p reconcile.BackfillPhase) colour {
	switch p {
	case reconcile.BackfillRunning, reconcile.BackfillFinished:
		return green
	case reconcile.BackfillFailed:
		return red
	}
	return yellow
}
