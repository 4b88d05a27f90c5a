package view

import (
	"fmt"
	"io"
	"time"

	"keystone/cmd/internal/api"
	"keystone/reconcile"
)

var doing = map[reconcile.Action][2]string{
	reconcile.Create:  {"Creating", "Creation"},
	reconcile.Update:  {"Modifying", "Modifications"},
	reconcile.Drain:   {"Modifying", "Modifications"},
	reconcile.Replace: {"Replacing", "Replacement"},
	reconcile.Delete:  {"Destroying", "Destruction"},
	reconcile.Forget:  {"Forgetting", "Forgetting"},
	reconcile.Move:    {"Moving", "Move"},
	reconcile.Repair:  {"Repairing", "Repair"},
}

// ApplyEvent prints one step of an apply.
func ApplyEvent(w io.Writer, s Style, e api.ApplyEvent) {
	words, ok := doing[reconcile.Action(e.Action)]
	if !ok {
		words = [2]string{e.Action, e.Action}
	}
	name := s.paint(printable(e.Addr)+":", bold)
	switch e.Phase {
	case api.PhaseStart:
		_, _ = fmt.Fprintf(w, "%s %s...\n", name, words[0])
	case api.PhaseDone:
		_, _ = fmt.Fprintf(w, "%s %s complete after %s\n", name, words[1], e.Elapsed.Round(time.Millisecond))
	case api.PhaseFailed:
		_, _ = fmt.Fprintf(w, "%s %s\n", name, s.paint("failed: "+printable(e.Error), red))
	}
}

// ApplyResult prints the last line of an apply.
func ApplyResult(w io.Writer, s Style, r api.ApplyResult) error {
	if r.Offline {
		_, err := fmt.Fprintf(w, "\n%s Revision %d is the goal now. No server runs: `keystone serve` brings it about.\n", s.paint("Stored.", bold, green), r.Serial)
		return err
	}
	c := r.Counts
	tail := ""
	for _, x := range []struct {
		n    int
		word string
	}{{c.Move, "moved"}, {c.Repair, "repaired"}, {c.Forget, "forgotten"}} {
		if x.n > 0 {
			tail += fmt.Sprintf(", %d %s", x.n, x.word)
		}
	}
	word, col := "Apply complete!", green
	if r.Failed > 0 {
		word, col = fmt.Sprintf("Apply failed for %d of %d changes; the server keeps trying.", r.Failed, r.Failed+r.Done), red
	}
	_, err := fmt.Fprintf(w, "\n%s Resources: %d added, %d changed, %d destroyed%s.\n", s.paint(word, bold, col), c.Add, c.Change, c.Destroy, tail)
	return err
}
