package cli

import (
	"context"
	"errors"
	"time"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/types"
)

// letterOptions say which letters a command means.
type letterOptions struct {
	scope
	target
	ids, codes   []string
	since, until string
	where        string
	partition    int32
	offset       int64
	limit        int64
	asJSON       bool
}

func (a *App) deadLettersCommand() *command {
	group := &command{
		Use:   "dead-letters COMMAND",
		Short: "Find, replay and purge records that failed",
		Long: "A record that a route could not process is kept as a dead letter: its bytes as they were read, where it\n" +
			"was, and what went wrong. These commands find letters, send them through the route again once it is\n" +
			"mended, and give up those that nobody wants.",
		Args: a.unknownCommand,
		RunE: func(cmd *command, _ []string) error {
			_ = cmd.Help() // prints to a stream; a command was asked for
			return silent(Invalid)
		},
	}
	group.AddCommand(a.lettersListCommand(), a.lettersShowCommand(), a.lettersReplayCommand(), a.lettersPurgeCommand())
	return group
}

// filters adds the flags that say which letters are meant.
func (o *letterOptions) filters(cmd *command, what string) {
	f := cmd.Flags()
	o.scope.flags(f)
	o.target.flags(f)
	f.StringArrayVar(&o.ids, "id", nil, "only the letter with this `ID`, as list shows it; may be repeated")
	f.StringArrayVar(&o.codes, "code", nil, "only letters with this error `CODE`, such as decode; may be repeated")
	f.StringVar(&o.since, "since", "", "only letters given up at `TIME` or later: a duration before now, such as 1h30m, or RFC 3339")
	f.StringVar(&o.until, "until", "", "only letters given up before `TIME`")
	f.StringVar(&o.where, "where", "", "only letters for whose original event `EXPR` is true; meta.headers[\"ks-error-code\"] and the rest of the envelope are there, too")
	f.Int32Var(&o.partition, "partition", 0, "only letters in partition `N` of the dead-letter stream")
	f.Int64Var(&o.offset, "offset", 0, "only the letter at `OFFSET` of the dead-letter stream, or at this byte of the file")
	f.Int64Var(&o.limit, "limit", 0, what+" at most `N` letters, the oldest")
}

func (a *App) lettersListCommand() *command {
	var o letterOptions
	cmd := &command{
		Use:   "list [flags] [ROUTE] [DIR]",
		Short: "List dead letters",
		Long: "Lists the dead letters of a route and counts them by error code; without a route, counts those of every\n" +
			"route. Letters that were purged are not shown; those that were replayed are, with that word.",
		Example: "  keystone dead-letters list\n  keystone dead-letters list route.plays -code decode -since 1h\n  keystone dead-letters list route.plays -where 'country == \"DE\"'",
		Args:    between(0, 2, "at most the address of a route, such as route.plays, and a directory"),
		RunE: func(cmd *command, args []string) error {
			if len(args) == 0 || len(args) == 1 && isDir(args[0]) {
				dir, err := dirArg(args, 0)
				if err != nil {
					return err
				}
				return a.countLetters(cmd, o, dir)
			}
			return a.listLetters(cmd, o, args)
		},
	}
	o.filters(cmd, "list")
	cmd.ValidArgsFunction = a.completes(&o.scope, "route")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object a letter, or a route, on a line")
	return cmd
}

func (a *App) lettersShowCommand() *command {
	var o letterOptions
	cmd := &command{
		Use:     "show [flags] ROUTE [DIR]",
		Short:   "Show dead letters whole",
		Long:    "Shows letters with all that is known of them: the error, where the record was, its key, headers and value.",
		Example: "  keystone dead-letters show route.plays -id 0:17",
		Args:    between(1, 2, "the address of a route, such as route.plays, and at most one directory"),
		RunE: func(cmd *command, args []string) error {
			return a.showLetters(cmd, o, args)
		},
	}
	o.filters(cmd, "show")
	cmd.Flags().Lookup("limit").DefValue = "10"
	o.limit = 10
	cmd.ValidArgsFunction = a.completes(&o.scope, "route")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print JSON, one letter after the other")
	return cmd
}

func (a *App) lettersReplayCommand() *command {
	var o letterOptions
	var ask api.Replay
	var autoApprove bool
	cmd := &command{
		Use:   "replay [flags] ROUTE [DIR]",
		Short: "Send dead letters through their route again",
		Long: "Sends the original records of dead letters through the program of the route and to its sink as they are\n" +
			"now, after everything that was delivered before: a replay joins at the end. A record that fails again\n" +
			"becomes a new dead letter that says how often it was replayed. Letters that were replayed are left out,\n" +
			"unless -again is given, and so are records that were replayed -max-replays times. When it is interrupted,\n" +
			"what was not replayed stays; a crash in the middle repeats some. The exit code is 1 where records failed again.",
		Example: "  keystone dead-letters replay route.plays -code missing_field -plan\n  keystone dead-letters replay route.plays -auto-approve",
		Args:    between(1, 2, "the address of a route, such as route.plays, and at most one directory"),
		RunE: func(cmd *command, args []string) error {
			return a.replayLetters(cmd, o, ask, autoApprove, args)
		},
	}
	o.filters(cmd, "replay")
	cmd.ValidArgsFunction = a.completes(&o.scope, "route")
	f := cmd.Flags()
	f.BoolVar(&ask.Plan, "plan", false, "only show what would be replayed")
	f.BoolVar(&ask.Again, "again", false, "also letters that were replayed already")
	f.IntVar(&ask.MaxReplays, "max-replays", api.DefaultMaxReplays, "leave records alone that were replayed `N` times")
	f.BoolVar(&o.asJSON, "json", false, "print JSON; it does not ask, so it needs -auto-approve or -plan")
	f.BoolVar(&autoApprove, "auto-approve", false, "do not ask")
	return cmd
}

func (a *App) lettersPurgeCommand() *command {
	var o letterOptions
	var ask api.Purge
	var all, autoApprove bool
	cmd := &command{
		Use:   "purge [flags] ROUTE [DIR]",
		Short: "Give dead letters up",
		Long: "Gives letters up for good: they are not shown or replayed any more. A topic lets go of its oldest records\n" +
			"only: letters before which others are still wanted are marked now and deleted when those are done with.\n" +
			"What was replayed is done with, too, and is deleted along.\n" +
			"Who purged what is in the audit.",
		Example: "  keystone dead-letters purge route.plays -code tombstone\n  keystone dead-letters purge route.plays -all",
		Args:    between(1, 2, "the address of a route, such as route.plays, and at most one directory"),
		RunE: func(cmd *command, args []string) error {
			return a.purgeLetters(cmd, o, ask, all, autoApprove, args)
		},
	}
	o.filters(cmd, "purge")
	cmd.ValidArgsFunction = a.completes(&o.scope, "route")
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "every letter of the route; needed where no other flag says which")
	f.BoolVar(&ask.Plan, "plan", false, "only show what would be purged")
	f.BoolVar(&o.asJSON, "json", false, "print JSON; it does not ask, so it needs -auto-approve or -plan")
	f.BoolVar(&autoApprove, "auto-approve", false, "do not ask")
	return cmd
}

// query checks the flags.
func (a *App) query(cmd *command, o letterOptions, name string) (api.LetterQuery, error) {
	q := api.LetterQuery{Address: name, IDs: o.ids, Codes: o.codes, Where: o.where, Limit: o.limit}
	at, err := addr.Parse(name)
	if err != nil {
		return q, usagef("%v", err)
	}
	if at.Type != "route" {
		return q, usagef("%s is a %s; dead letters are those of a route", name, at.Type)
	}
	now := time.Now()
	if q.Since, err = moment("since", o.since, now); err != nil {
		return q, err
	}
	if q.Until, err = moment("until", o.until, now); err != nil {
		return q, err
	}
	if !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return q, usagef("-since %s is not before -until %s", o.since, o.until)
	}
	if o.limit < 0 || o.partition < 0 || o.offset < 0 {
		return q, usagef("-limit, -partition and -offset are not negative")
	}
	if cmd.Flags().Changed("partition") {
		q.Part = &o.partition
	}
	if cmd.Flags().Changed("offset") {
		q.Offset = &o.offset
	}
	return q, a.checkWhere(o.where)
}

// restricts tells whether a query leaves any letter out.
func restricts(q api.LetterQuery) bool {
	return len(q.IDs)+len(q.Codes) > 0 || !q.Since.IsZero() || !q.Until.IsZero() || q.Where != "" || q.Part != nil || q.Offset != nil || q.Limit > 0
}

// checkWhere shows what is wrong with an expression, at its token.
func (a *App) checkWhere(expr string) error {
	if expr == "" {
		return nil
	}
	const file = "-where"
	_, ds := check.Condition(diag.LineText(file, expr), check.Env{Event: types.AnyType})
	if !ds.HasErrors() {
		return nil
	}
	return errors.Join(silent(Invalid), view.Diagnostics(a.err, a.style(a.err), api.NewDiagnostics(ds.Sort(), map[string][]byte{file: []byte(expr)})))
}

// openLetters gives the control plane and the query that a command line means.
func (a *App) openLetters(cmd *command, o letterOptions, args []string) (c api.Control, q api.LetterQuery, closeIt func(), err error) {
	dir, err := dirArg(args, 1)
	if err != nil {
		return nil, q, nil, err
	}
	if q, err = a.query(cmd, o, args[0]); err != nil {
		return nil, q, nil, err
	}
	place, err := a.findPlace(o.scope, dir)
	if err != nil {
		return nil, q, nil, err
	}
	c, closeIt, err = a.control(cmd.Context(), o.target, place)
	return c, q, closeIt, err
}

func (a *App) countLetters(cmd *command, o letterOptions, dir string) error {
	place, err := a.findPlace(o.scope, dir)
	if err != nil {
		return err
	}
	c, closeIt, err := a.control(cmd.Context(), o.target, place)
	if err != nil {
		return err
	}
	defer closeIt()
	counts, err := c.LetterCounts(cmd.Context())
	if err != nil {
		return err
	}
	if !o.asJSON {
		return view.LetterCounts(a.out, a.style(a.out), counts)
	}
	for _, s := range counts {
		if err := view.JSONLine(a.out, s); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) listLetters(cmd *command, o letterOptions, args []string) error {
	c, q, closeIt, err := a.openLetters(cmd, o, args)
	if err != nil {
		return err
	}
	defer closeIt()
	if o.asJSON {
		sum, err := c.DeadLetters(cmd.Context(), q, func(l api.DeadLetter) error { return view.JSONLine(a.out, l) })
		return errors.Join(err, view.LetterDoubts(a.err, a.style(a.err), sum))
	}
	q.Brief = true
	rows := view.NewLetterRows(a.out, a.style(a.out))
	sum, err := c.DeadLetters(cmd.Context(), q, rows.Add)
	if err != nil {
		return err
	}
	return rows.End(sum)
}

func (a *App) showLetters(cmd *command, o letterOptions, args []string) error {
	c, q, closeIt, err := a.openLetters(cmd, o, args)
	if err != nil {
		return err
	}
	defer closeIt()
	style := a.style(a.out)
	sum, err := c.DeadLetters(cmd.Context(), q, func(l api.DeadLetter) error {
		if o.asJSON {
			return view.JSON(a.out, l)
		}
		return view.Letter(a.out, style, l)
	})
	if err != nil {
		return err
	}
	if err := view.LetterDoubts(a.err, a.style(a.err), sum); err != nil {
		return err
	}
	if sum.Letters == 0 {
		return errors.New("no dead letter matches; `keystone dead-letters list` shows those that there are")
	}
	return nil
}

func (a *App) replayLetters(cmd *command, o letterOptions, ask api.Replay, autoApprove bool, args []string) error {
	if ask.MaxReplays < 1 {
		return usagef("-max-replays %d: write a positive number", ask.MaxReplays)
	}
	c, q, closeIt, err := a.openLetters(cmd, o, args)
	if err != nil {
		return err
	}
	defer closeIt()
	ctx, onlyPlan := cmd.Context(), ask.Plan
	ask.LetterQuery, ask.Who, ask.Plan = q, a.who(), true
	plan, err := c.Replay(ctx, ask, func(api.Replayed) {})
	if err != nil {
		return err
	}
	show := func(r api.Replayed) error {
		if o.asJSON {
			return view.JSON(a.out, r)
		}
		return view.Replayed(a.out, a.style(a.out), r)
	}
	if onlyPlan || plan.Letters == 0 {
		return show(plan)
	}
	if err := a.approve(ctx, "replay", o.asJSON, autoApprove, "Do you want to replay these dead letters?", func() error { return show(plan) }); err != nil {
		return err
	}
	ask.Plan, ask.Ends = false, plan.Ends // what was shown is what is done
	style := a.style(a.err)
	done, err := c.Replay(ctx, ask, func(p api.Replayed) {
		if style.Width > 0 {
			view.ReplayProgress(a.err, style, p, plan.Letters)
		}
	})
	if err != nil {
		return err
	}
	if err := show(done); err != nil {
		return err
	}
	if done.Outcomes["dead_lettered"] > 0 || done.Interrupted != "" {
		return silent(Failed)
	}
	return nil
}

func (a *App) purgeLetters(cmd *command, o letterOptions, ask api.Purge, all, autoApprove bool, args []string) error {
	c, q, closeIt, err := a.openLetters(cmd, o, args)
	if err != nil {
		return err
	}
	defer closeIt()
	switch {
	case all && restricts(q):
		return usagef("-all is every letter: leave out the other flags that say which")
	case !all && !restricts(q):
		return usagef("say which letters, such as with -code or -until, or -all for every one")
	}
	ctx, onlyPlan := cmd.Context(), ask.Plan
	ask.LetterQuery, ask.Who, ask.Plan = q, a.who(), true
	plan, err := c.Purge(ctx, ask)
	if err != nil {
		return err
	}
	show := func(p api.Purged) error {
		if o.asJSON {
			return view.JSON(a.out, p)
		}
		return view.Purged(a.out, a.style(a.out), p)
	}
	if onlyPlan || plan.Letters == 0 {
		return show(plan)
	}
	if err := a.approve(ctx, "purge", o.asJSON, autoApprove, "Do you want to give these dead letters up?", func() error { return show(plan) }); err != nil {
		return err
	}
	ask.Plan, ask.Ends = false, plan.Ends
	done, err := c.Purge(ctx, ask)
	if err != nil {
		return err
	}
	return show(done)
}

// approve shows a plan and asks, unless it was approved.
func (a *App) approve(ctx context.Context, command string, asJSON, autoApprove bool, question string, show func() error) error {
	if autoApprove {
		if asJSON {
			return nil
		}
		return show()
	}
	if asJSON {
		return usagef("%s -json cannot ask: add -auto-approve, or -plan to see what it would do", command)
	}
	if err := show(); err != nil {
		return err
	}
	return a.confirm(ctx, command, question, "yes", ", or -plan to see what it would do")
}
