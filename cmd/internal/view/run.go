package view

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"keystone/reconcile"
)

// RunResult is `run -json`. Read is the sum of delivered, filtered,
// dead_lettered, dropped, abandoned and in_flight.
type RunResult struct {
	Route        string           `json:"route"`
	Read         int64            `json:"read"`
	Delivered    int64            `json:"delivered"`
	Filtered     int64            `json:"filtered"`
	DeadLettered int64            `json:"dead_lettered"`
	Dropped      int64            `json:"dropped"`
	InFlight     int64            `json:"in_flight"`
	Abandoned    int64            `json:"abandoned,omitempty"` // without an outcome when it was stopped: they are read again
	Written      int64            `json:"written"`
	Retries      int64            `json:"retries"`
	Reasons      map[string]int64 `json:"reasons,omitempty"`
	Duration     float64          `json:"duration_seconds"`
	Hints        []string         `json:"hints,omitempty"`        // about events, as status shows them
	DeadLetters  string           `json:"dead_letters,omitempty"` // the file with them, where there are any
	Stopped      bool             `json:"stopped,omitempty"`      // by a signal
	Error        string           `json:"error,omitempty"`
}

// NewRunResult gives the JSON form.
func NewRunResult(route string, c reconcile.Counters, took time.Duration) RunResult {
	return RunResult{Route: route, Read: c.Read, Delivered: c.Delivered, Filtered: c.Filtered, DeadLettered: c.DeadLettered, Dropped: c.Dropped,
		InFlight: c.InFlight, Abandoned: c.Abandoned, Written: c.Written, Retries: c.Retries, Reasons: c.Reasons, Duration: took.Seconds()}
}

// RunSummary prints what came of a run.
func RunSummary(w io.Writer, s Style, r RunResult) error {
	var b strings.Builder
	word := s.paint("Done.", bold, green)
	switch {
	case r.Error != "" && r.Read == 0:
		return nil // the error says it all
	case r.Error != "":
		word = s.paint("Failed.", bold, red)
	case r.Stopped:
		word = s.paint("Stopped.", bold, yellow)
	}
	fmt.Fprintf(&b, "%s %s: %s read, %s delivered, %s filtered, %s dead-lettered, %s dropped in %s (%s/s).\n", word, printable(r.Route),
		Count(r.Read), Count(r.Delivered), Count(r.Filtered), Count(r.DeadLettered), Count(r.Dropped), seconds(r.Duration), Count(rate(r.Read, r.Duration)))
	if r.Written != r.Delivered {
		fmt.Fprintf(&b, "  %s written\n", Count(r.Written))
	}
	if r.DeadLettered > 0 && r.DeadLetters != "" {
		fmt.Fprintf(&b, "  the dead letters are in %s\n", printable(r.DeadLetters))
	}
	if n := r.InFlight + r.Abandoned; n > 0 {
		fmt.Fprintf(&b, "  %s read without an outcome: they are read again\n", Count(n))
	}
	for _, reason := range slices.Sorted(maps.Keys(r.Reasons)) {
		fmt.Fprintf(&b, "  %s: %s\n", printable(reason), Count(r.Reasons[reason]))
	}
	for _, hint := range r.Hints {
		fmt.Fprintf(&b, "  %s %s\n", s.paint("note:", yellow), printable(hint))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

func rate(n int64, s float64) int64 {
	if s <= 0 {
		return 0
	}
	return int64(float64(n) / s)
}

// Progress rewrites one line of a terminal with how a run does. On anything
// but a terminal it prints nothing. Call it from one goroutine.
type Progress struct {
	W     io.Writer
	Style Style
	Start time.Time
	last  reconcile.Counters
	at    time.Time
	shown bool
}

// Show rewrites the line; now is the time of the state.
func (p *Progress) Show(st reconcile.State, now time.Time) {
	if p.Style.Width == 0 {
		return
	}
	since := p.at
	if since.IsZero() {
		since = p.Start
	}
	c := st.Counters
	took := now.Sub(since).Seconds()
	line := fmt.Sprintf("%s  read %s (%s/s)  delivered %s  filtered %s", Age(now.Sub(p.Start)), Count(c.Read), Count(rate(c.Read-p.last.Read, took)), Count(c.Delivered), Count(c.Filtered))
	if n := c.DeadLettered + c.Dropped; n > 0 {
		line += fmt.Sprintf("  dead-lettered %s  dropped %s", Count(c.DeadLettered), Count(c.Dropped))
	}
	if st.Activity != "" {
		line += "  " + printable(st.Activity)
	}
	if r := []rune(line); len(r) >= p.Style.Width {
		line = string(r[:p.Style.Width-1])
	}
	p.last, p.at, p.shown = c, now, true
	_, _ = fmt.Fprintf(p.W, "\r\x1b[K%s", line) // progress is a courtesy
}

// End clears the line.
func (p *Progress) End() {
	if p.shown {
		_, _ = fmt.Fprint(p.W, "\r\x1b[K")
		p.shown = false
	}
}
