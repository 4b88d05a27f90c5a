package view

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/cmd/internal/api"
	"keystone/reconcile"
)

// Status prints the goal and the world as a table. now is what ages count from.
func Status(w io.Writer, s Style, st api.Status, now time.Time) error {
	var b strings.Builder
	statusHead(&b, s, st, now)
	rows := [][]cell{head("ADDRESS", "HEALTH", "FOR", "READ", "DELIVERED", "FILTERED", "DEAD", "DROPPED", "LAG", "RESTARTS", "DOES")}
	for _, a := range st.Addresses {
		rows = append(rows, statusRow(a, now))
	}
	if len(st.Addresses) == 0 {
		b.WriteString("Nothing is applied yet: `keystone serve` or `keystone apply` does that.\n")
	} else {
		table(&b, s, rows)
	}
	notes(&b, s, st, now)
	if len(st.Diagnostics) > 0 {
		b.WriteString("\n" + s.paint("The files were edited and cannot be taken; the last good revision keeps running:", bold, red) + "\n")
		for _, d := range st.Diagnostics {
			diagnostic(&b, s, d)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func statusHead(b *strings.Builder, s Style, st api.Status, now time.Time) {
	if st.Serial == 0 && st.Offline {
		fmt.Fprintf(b, "environment %s; %s\n\n", st.Env, s.paint("no server runs", yellow, bold))
		return
	}
	fmt.Fprintf(b, "%s %s, environment %s, revision %d", s.paint("namespace", dim), st.Namespace, st.Env, st.Serial)
	if who := st.Revision.Who; who != "" {
		fmt.Fprintf(b, " by %s", printable(who))
	}
	if !st.Revision.Time.IsZero() {
		fmt.Fprintf(b, ", stored %s ago", Age(now.Sub(st.Revision.Time)))
	}
	if st.Offline {
		b.WriteString("; " + s.paint("no server runs", yellow, bold))
	} else if !st.Started.IsZero() {
		fmt.Fprintf(b, "; server up %s", Age(now.Sub(st.Started)))
	}
	b.WriteString("\n\n")
}

func head(names ...string) []cell {
	cells := make([]cell, len(names))
	for i, n := range names {
		cells[i] = cell{text: n, colours: []colour{dim}, right: i >= 3 && i < len(names)-1}
	}
	return cells
}

func statusRow(a api.AddressStatus, now time.Time) []cell {
	row := []cell{text(a.Addr), text(a.Health, healthColour(a.Health)), {}}
	if !a.Since.IsZero() {
		row[2] = text(Age(now.Sub(a.Since)))
	}
	none := cell{text: "-", colours: []colour{dim}, right: true}
	if c := a.Counters; c != nil {
		lag := cell{text: "?", right: true}
		if a.Lag != nil {
			lag = number(*a.Lag)
		}
		row = append(row, number(c.Read), number(c.Delivered), number(c.Filtered), number(c.DeadLettered), number(c.Dropped), lag)
	} else {
		row = append(row, none, none, none, none, none, none)
	}
	return append(row, cell{text: strconv.Itoa(a.Restarts), right: true}, text(short(a.Activity)))
}

// short cuts what a route does to a table's width: the error in it stands in full below.
func short(activity string) string {
	const most = 60
	if r := []rune(activity); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return activity
}

func healthColour(h string) colour {
	switch reconcile.Health(h) {
	case reconcile.Running:
		return green
	case reconcile.Failed, reconcile.Missing:
		return red
	case reconcile.Degraded, reconcile.Draining, reconcile.Starting, reconcile.Paused, reconcile.Drained:
		return yellow
	}
	return dim
}

// notes are what a table has no room for.
func notes(b *strings.Builder, s Style, st api.Status, now time.Time) {
	first := true
	say := func(what string, c colour, detail string) {
		if first {
			b.WriteByte('\n')
			first = false
		}
		b.WriteString(s.paint(printable(what)+":", c, bold) + " " + printable(detail) + "\n")
	}
	for _, a := range st.Addresses {
		if a.Error != "" {
			say(a.Addr, red, a.Error)
		}
		for _, d := range a.Drift {
			say(a.Addr, yellow, "drifted: "+d)
		}
		for _, c := range a.Conditions {
			switch c.Kind {
			case reconcile.Drifted: // said above, one by one
			case reconcile.DataLost:
				if a.Counters == nil || a.Counters.LostBeforeRead == 0 { // else said below, exactly
					say(a.Addr, red, c.Message)
				}
			default:
				say(a.Addr, yellow, strings.ReplaceAll(string(c.Kind), "_", " ")+" for "+Age(now.Sub(c.Since))+": "+c.Message)
			}
		}
		for _, h := range a.Hints {
			say(a.Addr, yellow, h)
		}
		if c := a.Counters; c != nil && c.DeadLettered > 0 && a.Letters != "" {
			say(a.Addr, yellow, Count(c.DeadLettered)+" dead letters went to "+a.Letters+": `keystone dead-letters list "+a.Addr+"`")
		}
		if c := a.Counters; c != nil && c.SchemaViolations > 0 {
			say(a.Addr, yellow, Count(c.SchemaViolations)+" times a required field was missing")
		}
		if c := a.Counters; c != nil && c.LostBeforeRead > 0 {
			say(a.Addr, red, Count(c.LostBeforeRead)+" records were removed from the topic before they were read")
		}
	}
	clusters := make([]string, 0, len(st.Unreachable))
	for c := range st.Unreachable {
		clusters = append(clusters, c)
	}
	slices.Sort(clusters)
	for _, c := range clusters {
		say(c, red, "not reachable: "+st.Unreachable[c])
	}
	for _, a := range st.Waiting {
		say(a, yellow, "a destructive change waits for `keystone apply`")
	}
}

// Age writes how long something lasts, in its largest one or two units.
func Age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}
