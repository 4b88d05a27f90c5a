package view

import (
	"fmt"
	"strings"
	"time"

	"keystone/configs/spec"
	"keystone/reconcile"
)

// operators prints how a job runs, operator by operator.
func operators(b *strings.Builder, s Style, j *reconcile.JobRun, now time.Time) {
	fmt.Fprintf(b, "\n%s %d", s.paint("epoch", dim), j.Epoch)
	if j.Generation > 1 {
		fmt.Fprintf(b, " of generation %d", j.Generation)
	}
	if !j.Committed.IsZero() {
		fmt.Fprintf(b, ", committed %s ago in %s; it held reading up for %s (at most %s)", Age(now.Sub(j.Committed)), brief(j.Commit), brief(j.Pause), brief(j.LongPause))
	}
	b.WriteString("\n\n")
	rows := [][]cell{head("OPERATOR", "WATERMARK", "BEHIND", "IN", "OUT", "LATE", "DEAD", "MEMORY", "")}
	for i := range j.Operators {
		o := &j.Operators[i]
		row := []cell{text(o.Name), {}, {}}
		switch {
		case o.Ended:
			row[1] = text("ended", dim)
		case o.Watermark != nil:
			row[1] = text(o.Watermark.Format("2006-01-02 15:04:05"))
			if d := now.Sub(*o.Watermark); d > 0 {
				row[2] = text(Age(d))
			}
		}
		memory := cell{text: "-", colours: []colour{dim}, right: true}
		if o.Memory > 0 {
			memory = cell{text: spec.FormatBytes(o.Memory), right: true}
		}
		rows = append(rows, append(row, number(o.In), number(o.Out), number(o.Late), number(o.Failed), memory, cell{}))
	}
	table(b, s, rows)
}

func brief(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond / 10).String()
	}
	return d.Round(time.Millisecond).String()
}
