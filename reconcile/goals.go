package reconcile

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
)

// GoalsSpec is what Goals is made of.
type GoalsSpec struct {
	Revisions Revisions
	Loop      *Loop // nil: goals are stored, and nothing runs
	// Encode gives the stored form of a configuration, the same for the same one. It
	// is given resources without secrets that were written out (WithoutLiterals).
	Encode func(*configs.Config) ([]byte, error)
	// Decode reads what Encode gave.
	Decode func([]byte) (*configs.Config, error)
	Now    func() time.Time
	Log    *slog.Logger
}

// Goals keeps the goal of one namespace: it stores each proposed
// configuration as a revision and gives it to the loop, and remembers what is wrong with an edit
// that was not taken. Its methods may be called from several goroutines.
type Goals struct {
	spec GoalsSpec

	proposing sync.Mutex // held across the store: proposals come one at a time. Taken before mu.

	mu      sync.Mutex // guards what follows
	current Revision
	cfg     *configs.Config
	broken  diag.Diagnostics
	err     error
}

// NewGoals makes the service; call Open before anything else.
func NewGoals(s GoalsSpec) *Goals {
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Goals{spec: s}
}

// Open reads the latest revision and gives it to the loop: what ran before
// goes on, whatever the files hold now.
func (g *Goals) Open(ctx context.Context) error {
	g.proposing.Lock()
	defer g.proposing.Unlock()
	rev, err := g.spec.Revisions.Current(ctx)
	if err != nil {
		return err
	}
	g.set(rev, nil)
	if rev.Serial == 0 {
		return nil
	}
	cfg, err := g.spec.Decode(rev.Goal)
	if err != nil {
		return fmt.Errorf("the stored goal, revision %d: %w", rev.Serial, err)
	}
	g.set(rev, cfg)
	g.run(rev, cfg)
	return nil
}

// Proposal is a configuration that should become the goal.
type Proposal struct {
	Config  *configs.Config // Goals owns it from now on
	Who     string
	Why     string
	Sources []SourceFile
	// Serial is of the revision that it was planned against; Latest for whatever is current.
	Serial int64
	// Allow is the addresses whose destructive changes are agreed to.
	Allow []addr.Addr
}

// Latest as Proposal.Serial takes the proposal whatever is stored.
const Latest int64 = -1

// Propose makes a configuration the goal and stores it as a revision, unless
// it is the goal already: then the latest revision is given, and nothing is stored.
// A proposal that was planned against another serial than the stored one gives a *StaleError, one of another
// environment or namespace an *OtherGoalError.
func (g *Goals) Propose(ctx context.Context, p Proposal) (Revision, error) {
	stored := *p.Config
	stored.Resources = WithoutLiterals(p.Config.Resources)
	goal, err := g.spec.Encode(&stored)
	if err != nil {
		return Revision{}, fmt.Errorf("encode the goal: %w", err)
	}
	g.proposing.Lock()
	defer g.proposing.Unlock()
	now, err := g.spec.Revisions.Current(ctx) // another process may have stored one
	if err != nil {
		return Revision{}, err
	}
	if p.Serial != Latest && p.Serial != now.Serial {
		return Revision{}, &StaleError{Planned: p.Serial, Stored: now.Serial}
	}
	if ns := p.Config.Settings.Namespace; ns != "" && ns != now.Namespace {
		return Revision{}, &OtherGoalError{What: "namespace", Got: ns, Want: now.Namespace}
	}
	if now.Serial == 0 || !bytes.Equal(now.Goal, goal) || !subset(p.Allow, now.Allow) {
		next := Revision{Env: p.Config.Env, Namespace: now.Namespace, Time: g.spec.Now(), Who: p.Who, Why: p.Why, Goal: goal, Sources: p.Sources, Allow: p.Allow}
		if bytes.Equal(now.Goal, goal) {
			next.Allow = append(slices.Clone(now.Allow), p.Allow...) // consent to the same goal adds up
		}
		if now, err = g.spec.Revisions.Commit(ctx, next, now.Serial); err != nil {
			return Revision{}, err
		}
		g.spec.Log.Info("new goal", "revision", now.Serial, "who", now.Who, "why", now.Why)
	}
	g.set(now, p.Config)
	g.run(now, p.Config)
	return now, nil
}

func subset(a, of []addr.Addr) bool {
	return !slices.ContainsFunc(a, func(x addr.Addr) bool { return !slices.Contains(of, x) })
}

// Broken remembers what is wrong with files that were not taken: diagnostics,
// or why they could not be read or stored. The latest revision stays the goal.
func (g *Goals) Broken(ds diag.Diagnostics, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.broken, g.err = ds, err
}

// GoalState is the goal, and what is wrong with the files.
type GoalState struct {
	Revision Revision
	Config   *configs.Config  // of Revision; nil if there is none. Not to be changed.
	Broken   diag.Diagnostics // of an edit that was not taken
	Err      error            // why the files could not be read or stored
}

// State gives the goal as it is now.
func (g *Goals) State() GoalState {
	g.mu.Lock()
	defer g.mu.Unlock()
	return GoalState{Revision: g.current, Config: g.cfg, Broken: slices.Clone(g.broken), Err: g.err}
}

// Message says in one line what runs, where the files hold something else;
// "" where all is well.
func (s GoalState) Message() string {
	runs := fmt.Sprintf("what runs is revision %d", s.Revision.Serial)
	if s.Revision.Serial == 0 {
		runs = "nothing runs yet"
	}
	if s.Err != nil {
		return runs + "; the files are not taken: " + s.Err.Error()
	}
	errors := 0
	first := ""
	for _, d := range s.Broken {
		if d.Severity == diag.Error {
			if errors++; errors == 1 {
				first = d.Error()
			}
		}
	}
	switch errors {
	case 0:
		return ""
	case 1:
		return runs + "; the files have an error: " + first
	}
	return fmt.Sprintf("%s; the files have %d errors, the first: %s", runs, errors, first)
}

// set makes a revision the current one; the files are as it says.
func (g *Goals) set(rev Revision, cfg *configs.Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.current, g.cfg, g.broken, g.err = rev, cfg, nil, nil
}

func (g *Goals) run(rev Revision, cfg *configs.Config) {
	if g.spec.Loop == nil {
		return
	}
	allow := make(Allow, len(rev.Allow))
	for _, a := range rev.Allow {
		allow[a] = true
	}
	g.spec.Loop.SetGoal(Goal{Serial: rev.Serial, Env: rev.Env, Namespace: rev.Namespace, Config: cfg}, allow)
}
