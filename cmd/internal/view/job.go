package view

import (
	"fmt"
	"strings"
	"time"

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
	b.WriteByte('\n')
	if c := j.Checkpoint; c != nil && !c.Time.IsZero() {
		fmt.Fprintf(b, "%s %d, of epoch %d, made %s ago in %s: %s, of which %s were new\n", s.paint("checkpoint", dim), c.Number, c.Epoch, Age(now.Sub(c.Time)), brief(c.Took), sized(c.Bytes), sized(c.Uploaded))
	}
	b.WriteByte('\n')
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
			memory = cell{text: sized(o.Memory), right: true}
		}
		rows = append(rows, append(row, number(o.In), number(o.Out), number(o.Late), number(o.Failed), memory, cell{}))
	}
	table(b, s, rows)
}

// sized gives bytes for people.
func sized(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

func brief(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond / 10).String()
	}
	return d.Round(time.Millisecond).String()
}
