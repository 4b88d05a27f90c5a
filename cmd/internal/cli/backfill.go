package cli

import (
	"context"
	"fmt"
	"time"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs/addr"
)

type backfillOptions struct {
	scope
	target
	from, since, until, then, cut     string
	rate                              int64
	plan, detach, asJSON, autoApprove bool
}

func (a *App) backfillCommand() *command {
	var o backfillOptions
	cmd := &command{
		Use:   "backfill [flags] ROUTE [DIR]",
		Short: "Run a route over the warehouse",
		Long: "Reads rows of a source of kind \"parquet\" or \"hive\", sends them through the program of a route and writes them to\n" +
			"its sink, beside what the route itself does. It shows what would be read, after the partitions and row groups in\n" +
			"which no row can pass were left out, and asks. What is read is settled then: files that come later are not part of it.\n" +
			"A backfill goes on when the server is restarted, and when this command is interrupted; it yields where its\n" +
			"route falls behind. `keystone backfill list` shows how it stands; pause, resume and cancel steer it.",
		Example: "  keystone backfill route.plays -from source.archive -since 2026-01-01 -until 2026-02-01 -plan\n" +
			"  keystone backfill route.plays -from source.archive -rate 50000 -auto-approve\n" +
			"  keystone backfill route.new -from source.archive -then live\n" +
			"  keystone backfill list\n  keystone backfill pause route.plays",
		Args: between(1, 2, "the address of a route, such as route.plays, and at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 1)
			if err != nil {
				return err
			}
			ask, err := o.ask(args[0])
			if err != nil {
				return err
			}
			return a.backfill(cmd.Context(), o, ask, dir)
		},
	}
	f := cmd.Flags()
	o.scope.flags(f)
	o.target.flags(f)
	cmd.ValidArgsFunction = a.completes(&o.scope, "route")
	f.StringVar(&o.from, "from", "", "the `SOURCE` to read, such as source.archive")
	f.StringVar(&o.since, "since", "", "only rows whose event time is `TIME` or later, such as 2026-01-31 or 2026-01-31T08:00:00Z")
	f.StringVar(&o.until, "until", "", "only rows whose event time is before `TIME`")
	f.Int64Var(&o.rate, "rate", 0, "at most `N` rows a second (default as many as the route and its sink leave room for)")
	f.StringVar(&o.then, "then", "", "\"live\": the route stands by, and goes on where the rows end: at the offsets that the table's own manifests have, or at -cut")
	f.StringVar(&o.cut, "cut", "", "with -then live, for tables that Keystone did not write: rows from before `TIME`, and the stream from then on")
	f.BoolVar(&o.plan, "plan", false, "only show what would be read")
	f.BoolVar(&o.detach, "detach", false, "begin it, and do not wait for its end")
	f.BoolVar(&o.asJSON, "json", false, "print JSON; it does not ask, so it needs -auto-approve or -plan")
	f.BoolVar(&o.autoApprove, "auto-approve", false, "do not ask")
	cmd.AddCommand(a.backfillListCommand(),
		a.backfillSteerCommand(api.BackfillPause, "Have the backfill of a route wait", "Has a backfill finish what is in flight and wait for `keystone backfill resume`, also over restarts."),
		a.backfillSteerCommand(api.BackfillResume, "Have the backfill of a route go on", "Has a paused backfill go on where it was."),
		a.backfillSteerCommand(api.BackfillCancel, "Give up the backfill of a route", "Ends a backfill. What it has written stays; another one begins anew."))
	return cmd
}

func (o backfillOptions) ask(name string) (api.Backfill, error) {
	b := api.Backfill{Address: name, From: o.from, Rate: o.rate}
	if _, err := addr.Parse(name); err != nil {
		return b, usagef("%v", err)
	}
	if o.from == "" {
		return b, usagef("say what to read: -from source.NAME, of kind \"parquet\" or \"hive\"")
	}
	if o.rate < 0 {
		return b, usagef("-rate %d: write a number of rows a second", o.rate)
	}
	var err error
	if o.since != "" {
		if b.Since, err = parseTime(o.since); err != nil {
			return b, usagef("-since %s: write a time such as 2026-01-31T08:00:00Z, or a day such as 2026-01-31", o.since)
		}
	}
	if o.until != "" {
		if b.Until, err = parseTime(o.until); err != nil {
			return b, usagef("-until %s: write a time such as 2026-01-31T08:00:00Z, or a day such as 2026-01-31", o.until)
		}
	}
	if o.cut != "" {
		if b.Cut, err = parseTime(o.cut); err != nil {
			return b, usagef("-cut %s: write a time such as 2026-01-31T08:00:00Z, or a day such as 2026-01-31", o.cut)
		}
	}
	if b.Then = o.then; b.Then != "" && b.Then != "live" {
		return b, usagef("-then %s: the only thing that can follow is \"live\"", b.Then)
	}
	if b.Then == "" && o.cut != "" {
		return b, usagef("-cut divides the rows from what the live route reads: it goes with -then live")
	}
	if !b.Since.IsZero() && !b.Until.IsZero() && !b.Since.Before(b.Until) {
		return b, usagef("-since %s is not before -until %s", o.since, o.until)
	}
	return b, nil
}

func (a *App) backfill(ctx context.Context, o backfillOptions, ask api.Backfill, dir string) error {
	place, err := a.findPlace(o.scope, dir)
	if err != nil {
		return err
	}
	c, closeIt, err := a.control(ctx, o.target, place)
	if err != nil {
		return err
	}
	defer closeIt()
	ask.Who, ask.Plan = a.who(), true
	plan, err := c.Backfill(ctx, ask)
	if err != nil {
		return err
	}
	show := func(b api.Backfilling) error {
		if o.asJSON {
			return view.JSON(a.out, b)
		}
		return view.BackfillPlan(a.out, a.style(a.out), b)
	}
	if o.plan || plan.Rows == 0 {
		return show(plan)
	}
	if !o.autoApprove && o.asJSON {
		return usagef("backfill -json cannot ask: add -auto-approve, or -plan to see what it would read")
	}
	if !o.asJSON {
		if err := show(plan); err != nil {
			return err
		}
	}
	if !o.autoApprove {
		if err := a.confirm(ctx, "backfill", "Do you want to backfill "+plan.Addr+"?", "yes", ", or -plan to see what it would read"); err != nil {
			return err
		}
	}
	ask.Plan = false
	begun, err := c.Backfill(ctx, ask)
	if err != nil {
		return err
	}
	if o.detach {
		if o.asJSON {
			return view.JSON(a.out, begun)
		}
		fmt.Fprintf(a.out, "The backfill of %s has begun; `keystone backfill list` shows how it stands.\n", begun.Addr)
		return nil
	}
	return a.followBackfill(ctx, c, o, begun)
}

// followTick is how often a backfill is looked at.
const followTick = 500 * time.Millisecond

// followBackfill waits for the end of a backfill and shows how it goes on.
func (a *App) followBackfill(ctx context.Context, c api.Backfiller, o backfillOptions, b api.Backfilling) error {
	live := !o.asJSON && a.style(a.err).Width > 0
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	for {
		list, err := c.Backfills(ctx)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("the backfill goes on without being watched: %w", err)
		}
		for _, x := range list {
			if x.Addr == b.Addr && x.ID == b.ID {
				b = x
			}
		}
		if b.Phase.Over() {
			break
		}
		if live {
			fmt.Fprint(a.err, "\r\x1b[K"+view.BackfillLine(b))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if live {
				fmt.Fprint(a.err, "\r\x1b[K")
			}
			fmt.Fprintf(a.err, "The backfill of %s goes on; `keystone backfill list` shows how it stands, `keystone backfill cancel %s` ends it.\n", b.Addr, b.Addr)
			return silent(Failed)
		}
	}
	if live {
		fmt.Fprint(a.err, "\r\x1b[K")
	}
	if o.asJSON {
		if err := view.JSON(a.out, b); err != nil {
			return err
		}
	} else if err := view.BackfillDone(a.out, a.style(a.out), b); err != nil {
		return err
	}
	if b.Error != "" || b.Counts["dead_lettered"] > 0 {
		return silent(Failed)
	}
	return nil
}

func (a *App) backfillListCommand() *command {
	var o backfillOptions
	cmd := &command{
		Use:     "list [flags] [DIR]",
		Short:   "Show the latest backfill of each route",
		Long:    "Shows the latest backfill of each route: how it stands, how many rows have an outcome, and how long the rest takes.",
		Example: "  keystone backfill list\n  keystone backfill list -json",
		Args:    between(0, 1, "at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 0)
			if err != nil {
				return err
			}
			place, err := a.findPlace(o.scope, dir)
			if err != nil {
				return err
			}
			c, closeIt, err := a.control(cmd.Context(), o.target, place)
			if err != nil {
				return err
			}
			defer closeIt()
			list, err := c.Backfills(cmd.Context())
			if err != nil {
				return err
			}
			if o.asJSON {
				return view.JSON(a.out, list)
			}
			return view.Backfills(a.out, a.style(a.out), list, time.Now())
		},
	}
	f := cmd.Flags()
	o.scope.flags(f)
	o.target.flags(f)
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	return cmd
}

func (a *App) backfillSteerCommand(verb, short, long string) *command {
	var o backfillOptions
	cmd := &command{
		Use:     verb + " [flags] ROUTE [DIR]",
		Short:   short,
		Long:    long,
		Example: "  keystone backfill " + verb + " route.plays",
		Args:    between(1, 2, "the address of a route, such as route.plays, and at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 1)
			if err != nil {
				return err
			}
			if _, err := addr.Parse(args[0]); err != nil {
				return usagef("%v", err)
			}
			place, err := a.findPlace(o.scope, dir)
			if err != nil {
				return err
			}
			c, closeIt, err := a.control(cmd.Context(), o.target, place)
			if err != nil {
				return err
			}
			defer closeIt()
			b, err := c.SteerBackfill(cmd.Context(), api.Steer{Address: args[0], Verb: verb, Who: a.who()})
			if err != nil {
				return err
			}
			if o.asJSON {
				return view.JSON(a.out, b)
			}
			return view.Backfills(a.out, a.style(a.out), []api.Backfilling{b}, time.Now())
		},
	}
	f := cmd.Flags()
	o.scope.flags(f)
	o.target.flags(f)
	cmd.ValidArgsFunction = a.completes(&o.scope, "route")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	return cmd
}
