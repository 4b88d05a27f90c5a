package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs/addr"
	"keystone/configs/spec"
)

type verifyOptions struct {
	scope
	target
	since, until string
	partitions   []int32
	from, to     int64
	limit, rate  int64
	asJSON       bool
}

func (a *App) verifyCommand() *command {
	var o verifyOptions
	cmd := &command{
		Use:   "verify [flags] ROUTE [DIR]",
		Short: "Prove that a route lost, repeated and changed nothing",
		Long: "Reads the source of a route and its sink again, both streams, and compares. Every record whose position is committed is run through\n" +
			"the program that ran then, and what that gives is looked up in the sink and among the dead letters by the\n" +
			"origin that each record carries. What is missing, repeated, unexpected or different is counted per partition,\n" +
			"with examples. What cannot be known any more, such as what retention removed, is said and is no failure.\n" +
			"It changes nothing and may run while the route does. The exit code is 1 where the route's guarantee does\n" +
			"not allow what was found.",
		Example: "  keystone verify -since 1h route.plays\n  keystone verify -json -partition 3 -from-offset 1000 -to-offset 2000 route.plays",
		Args:    between(1, 2, "the address of a route, such as route.plays, and at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 1)
			if err != nil {
				return err
			}
			return a.verify(cmd, o, args[0], dir)
		},
	}
	f := cmd.Flags()
	o.scope.flags(f)
	cmd.ValidArgsFunction = a.completes(&o.scope, "route")
	o.target.flags(f)
	f.StringVar(&o.since, "since", "", "judge records from `TIME` on: a duration before now, such as 1h30m, or RFC 3339")
	f.StringVar(&o.until, "until", "", "judge records before `TIME`")
	f.Int32SliceVar(&o.partitions, "partition", nil, "judge only the source's partition `N`; may be repeated")
	f.Int64Var(&o.from, "from-offset", 0, "judge records from `OFFSET` of the source on, in each partition")
	f.Int64Var(&o.to, "to-offset", 0, "judge records before `OFFSET`")
	f.Int64Var(&o.limit, "limit", 0, "judge at most the newest `N` offsets of each partition")
	f.Int64Var(&o.rate, "rate", 0, "read at most `N` records a second, so as not to disturb")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	return cmd
}

func (a *App) verify(cmd *command, o verifyOptions, name, dir string) error {
	at, err := addr.Parse(name)
	if err != nil {
		return usagef("%v", err)
	}
	if at.Type != "route" {
		return usagef("%s is a %s; only a route can be verified", name, at.Type)
	}
	ask, err := o.request(cmd, time.Now())
	if err != nil {
		return err
	}
	place, err := a.findPlace(o.scope, dir)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	c, closeIt, err := a.control(ctx, o.target, place)
	if err != nil {
		return err
	}
	defer closeIt()
	style := a.style(a.err)
	report, err := c.Verify(ctx, at, ask, func(p api.VerifyProgress) {
		if style.Width > 0 {
			view.VerifyProgress(a.err, style, p)
		}
	})
	if style.Width > 0 {
		fmt.Fprint(a.err, "\r\x1b[K") // takes the progress away
	}
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, api.ErrUnsupported) {
			return &codeError{Invalid, err}
		}
		return err
	}
	if o.asJSON {
		err = view.JSON(a.out, report)
	} else {
		err = view.Verified(a.out, a.style(a.out), report)
	}
	if err == nil && !report.OK {
		return silent(Failed)
	}
	return err
}

// request checks the flags. Those that were not given restrict nothing.
func (o verifyOptions) request(cmd *command, now time.Time) (api.VerifyOptions, error) {
	r := api.VerifyOptions{Partitions: o.partitions, Limit: o.limit, Rate: o.rate}
	var err error
	if r.Since, err = moment("since", o.since, now); err != nil {
		return r, err
	}
	if r.Until, err = moment("until", o.until, now); err != nil {
		return r, err
	}
	if !r.Until.IsZero() && !r.Since.Before(r.Until) {
		return r, usagef("-since %s is not before -until %s", o.since, o.until)
	}
	for name, n := range map[string]int64{"from-offset": o.from, "to-offset": o.to, "limit": o.limit, "rate": o.rate} {
		if n < 0 {
			return r, usagef("-%s %d: write a positive number", name, n)
		}
	}
	for _, p := range o.partitions {
		if p < 0 {
			return r, usagef("-partition %d: partitions count from 0", p)
		}
	}
	if cmd.Flags().Changed("from-offset") {
		r.From = &o.from
	}
	if cmd.Flags().Changed("to-offset") {
		r.To = &o.to
		if o.to <= o.from {
			return r, usagef("-to-offset %d is not after -from-offset %d", o.to, o.from)
		}
	}
	return r, nil
}

// moment reads a duration before now, or a time.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	d, err := spec.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, usagef("-%s %s: write a duration before now, such as 1h30m or 2d, or a time such as %s", flag, text, now.UTC().Truncate(time.Hour).Format(time.RFC3339))
	}
	return now.Add(-d), nil
}
