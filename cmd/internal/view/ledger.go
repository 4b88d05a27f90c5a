package view

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"keystone/cmd/internal/api"
	"keystone/reconcile"
)

// StatusOf prints one address in full, or each instance of a block: of a route its ledger and its lanes, of a job its operators.
func StatusOf(w io.Writer, s Style, st api.Status, now time.Time) error {
	var b strings.Builder
	statusHead(&b, s, st, now)
	for i := range st.Addresses {
		if i > 0 {
			b.WriteByte('\n')
		}
		detail(&b, s, &st.Addresses[i], now)
	}
	only := st
	only.Waiting, only.Unreachable = nil, nil
	notes(&b, s, only, now)
	_, err := io.WriteString(w, b.String())
	return err
}

func detail(b *strings.Builder, s Style, a *api.AddressStatus, now time.Time) {
	fmt.Fprintf(b, "%s is %s", s.paint(printable(a.Addr), bold), s.paint(a.Health, healthColour(a.Health)))
	if !a.Since.IsZero() {
		fmt.Fprintf(b, " for %s", Age(now.Sub(a.Since)))
	}
	if a.Activity != "" {
		fmt.Fprintf(b, ": %s", printable(a.Activity))
	}
	b.WriteByte('\n')
	line := func(name, text string) {
		fmt.Fprintf(b, "  %s %s\n", s.paint(fmt.Sprintf("%-11s", name), dim), printable(text))
	}
	if a.Kind != "" {
		line("kind", a.Kind)
	}
	if a.Restarts > 0 {
		line("restarts", Count(int64(a.Restarts)))
	}
	if a.Group != "" {
		line("group", a.Group)
	}
	if a.Lag != nil {
		line("lag", Count(*a.Lag))
	}
	switch c := a.Counters; {
	case c != nil && strings.HasPrefix(a.Addr, "job."):
		line("read", Count(c.Read))
		line("written", Count(c.Written))
	case c != nil:
		ledger(line, c)
	}
	if a.Job != nil {
		operators(b, s, a.Job, now)
	}
	if len(a.Lanes) > 0 {
		b.WriteByte('\n')
		lanes(b, s, a.Lanes)
	}
}

// ledger prints the counters of a route as the sum that they are.
func ledger(line func(name, text string), c *reconcile.Counters) {
	line("read", fmt.Sprintf("%s = %s delivered + %s filtered + %s dead-lettered + %s dropped + %s abandoned + %s in flight",
		Count(c.Read), Count(c.Delivered), Count(c.Filtered), Count(c.DeadLettered), Count(c.Dropped), Count(c.Abandoned), Count(c.InFlight)))
	for _, reason := range slices.Sorted(maps.Keys(c.Reasons)) {
		outcome, code, _ := strings.Cut(reason, "/")
		line("", fmt.Sprintf("%s %s: %s", Count(c.Reasons[reason]), strings.ReplaceAll(outcome, "_", "-"), code))
	}
	line("written", fmt.Sprintf("%s, tried again %s", Count(c.Written), Count(c.Retries)))
	if c.SinkLimit > 0 {
		line("requests", fmt.Sprintf("%s under way, at most %s at present", Count(int64(c.SinkRequests)), Count(int64(c.SinkLimit))))
	}
	if c.LostBeforeRead > 0 {
		line("lost", Count(c.LostBeforeRead)+" before they were read")
	}
}

func lanes(b *strings.Builder, s Style, ls []reconcile.Lane) {
	names := []string{"PARTITION", "READ", "DELIVERED", "FILTERED", "DEAD", "DROPPED", "ABANDONED", "IN FLIGHT", "COMMITTED", "NEXT", "LAG", "REVISION", "FROM", "DOES"}
	cells := make([]cell, len(names))
	for i, n := range names {
		cells[i] = cell{text: n, colours: []colour{dim}, right: i < len(names)-1}
	}
	rows := [][]cell{cells}
	for i := range ls {
		l := &ls[i]
		c := &l.Counters
		lag := cell{text: "?", right: true}
		if l.Lag != nil {
			lag = number(*l.Lag)
		}
		does := l.Activity
		if l.Error != "" {
			does += " (" + l.Error + ")"
		}
		if does == "" && l.Paused {
			does = "waiting_for_sink"
		}
		plain := func(n int64) cell { return cell{text: fmt.Sprint(n), right: true} } // an offset is copied, not read
		rows = append(rows, []cell{plain(int64(l.Partition)), number(c.Read), number(c.Delivered), number(c.Filtered), number(c.DeadLettered), number(c.Dropped),
			number(c.Abandoned), number(c.InFlight), plain(l.Committed), plain(l.Next), lag, plain(l.Revision), plain(l.From), text(short(does))})
	}
	table(b, s, rows)
}
