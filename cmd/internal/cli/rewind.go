package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs/addr"
)

type rewindOptions struct {
	scope
	target
	to, by, offsets           string
	start, end                bool
	plan, asJSON, autoApprove bool
	skip                      bool
}

func (a *App) rewindCommand() *command {
	var o rewindOptions
	cmd := &command{
		Use:   "rewind [flags] ROUTE [DIR]",
		Short: "Have a route read from elsewhere",
		Long: "Has a route go on elsewhere in what it reads: at a time, at offsets, at the start or the end. It shows, per\n" +
			"partition, from where to where and how much is repeated or skipped, and asks. Records that are skipped are\n" +
			"never delivered: that needs the word \"skip\", or -allow-skip.\n" +
			"The rewind is written down first; its route stops, its consumer group becomes empty, the positions are\n" +
			"committed, and the route starts again. A crash in between is completed by the next start, once. If others are\n" +
			"in the group whom this server cannot stop, nothing is done, and they are named.",
		Example: "  keystone rewind route.plays -to 2026-01-31T08:00:00Z\n  keystone rewind route.plays -by 2h -plan\n  keystone rewind route.plays -to-offset 0:1200,3:900 -auto-approve",
		Args:    between(1, 2, "the address of a route, such as route.plays, and at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 1)
			if err != nil {
				return err
			}
			ask, err := o.ask(args[0], time.Now())
			if err != nil {
				return err
			}
			return a.rewind(cmd.Context(), o, ask, dir)
		},
	}
	f := cmd.Flags()
	o.scope.flags(f)
	o.target.flags(f)
	cmd.ValidArgsFunction = a.completes(&o.scope, "route")
	f.StringVar(&o.to, "to", "", "the first record of `TIME` or later, such as 2026-01-31T08:00:00Z or 2026-01-31")
	f.StringVar(&o.by, "by", "", "`DURATION` before now, such as 90m or 2d")
	f.StringVar(&o.offsets, "to-offset", "", "these offsets, as `PARTITION:OFFSET`,…; the other partitions stay where they are")
	f.BoolVar(&o.start, "to-start", false, "the oldest record that is there")
	f.BoolVar(&o.end, "to-end", false, "behind the newest record: what waits is skipped")
	f.BoolVar(&o.plan, "plan", false, "only show what would happen")
	f.BoolVar(&o.asJSON, "json", false, "print JSON; it does not ask, so it needs -auto-approve or -plan")
	f.BoolVar(&o.autoApprove, "auto-approve", false, "do not ask")
	f.BoolVar(&o.skip, "allow-skip", false, "with -auto-approve: records may be skipped, and are then never delivered")
	return cmd
}

// ask turns the flags into a request.
func (o rewindOptions) ask(name string, now time.Time) (api.Rewind, error) {
	r := api.Rewind{Address: name, Start: o.start, End: o.end}
	at, err := addr.Parse(name)
	if err != nil {
		return r, usagef("%v", err)
	}
	if at.Type != "route" {
		return r, usagef("%s is a %s; only a route can be rewound", name, at.Type)
	}
	given := 0
	for _, set := range []bool{o.to != "", o.by != "", o.offsets != "", o.start, o.end} {
		if set {
			given++
		}
	}
	if given != 1 {
		return r, usagef("say where to, in one way: -to TIME, -by DURATION, -to-offset PARTITION:OFFSET, -to-start or -to-end")
	}
	switch {
	case o.to != "":
		if r.Time, err = parseTime(o.to); err != nil {
			return r, err
		}
		if r.Time.After(now) {
			return r, usagef("-to %s is in the future; -to-end goes behind the newest record", o.to)
		}
	case o.by != "":
		if r.By, err = parseSpan(o.by); err != nil {
			return r, err
		}
	case o.offsets != "":
		if r.Offsets, err = parseOffsets(o.offsets); err != nil {
			return r, err
		}
	}
	return r, nil
}

// parseTime reads a time with its zone, or a day or minute in the zone of this machine.
func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04:05", time.DateTime} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("-to %s: write a time such as 2026-01-31T08:00:00Z, or a day such as 2026-01-31", s)
}

// parseSpan reads a duration; d stands for 24 hours.
func parseSpan(s string) (time.Duration, error) {
	wrong := usagef("-by %s: write a duration such as 90m, 2h or 3d", s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n <= 0 || n > 36500 {
			return 0, wrong
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, wrong
	}
	return d, nil
}

// parseOffsets reads PARTITION:OFFSET,…
func parseOffsets(s string) ([]api.PartitionOffset, error) {
	var out []api.PartitionOffset
	seen := map[int32]bool{}
	for one := range strings.SplitSeq(s, ",") {
		part, offset, ok := strings.Cut(strings.TrimSpace(one), ":")
		p, err1 := strconv.ParseInt(part, 10, 32)
		n, err2 := strconv.ParseInt(offset, 10, 64)
		if !ok || err1 != nil || err2 != nil || p < 0 || n < 0 {
			return nil, usagef("-to-offset %s: write PARTITION:OFFSET, such as 0:1200, and more after commas", one)
		}
		if seen[int32(p)] {
			return nil, usagef("-to-offset names partition %d twice", p)
		}
		seen[int32(p)] = true
		out = append(out, api.PartitionOffset{Partition: int32(p), Offset: n})
	}
	return out, nil
}

func (a *App) rewind(ctx context.Context, o rewindOptions, ask api.Rewind, dir string) error {
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
	plan, err := c.Rewind(ctx, ask)
	if err != nil {
		return err
	}
	show := func(r api.Rewound) error {
		if o.asJSON {
			return view.JSON(a.out, r)
		}
		return view.Rewound(a.out, a.style(a.out), r)
	}
	if o.plan || !plan.Moves() {
		return show(plan)
	}
	if !o.autoApprove && o.asJSON {
		return usagef("rewind -json cannot ask: add -auto-approve, or -plan to see what it would do")
	}
	if o.autoApprove && plan.Skipped > 0 && !o.skip {
		if err := show(plan); err != nil {
			return err
		}
		return usagef("%d %s would be skipped and never delivered: add -allow-skip to agree to that", plan.Skipped, plan.Unit)
	}
	if !o.asJSON {
		if err := show(plan); err != nil {
			return err
		}
	}
	if !o.autoApprove {
		question, word := "Do you want to rewind "+plan.Addr+"?", "yes"
		if plan.Skipped > 0 {
			question, word = "Do you want to SKIP records of "+plan.Addr+"? They are never delivered.", "skip"
		}
		without := ", or -plan to see what it would do"
		if plan.Skipped > 0 {
			without = " and -allow-skip, or -plan to see what it would do"
		}
		if err := a.confirm(ctx, "rewind", question, word, without); err != nil {
			return err
		}
	}
	// What was shown is what is done.
	ask.Plan, ask.Skip, ask.PlannedTopic = false, plan.Skipped > 0, plan.TopicID
	for _, p := range plan.Partitions {
		ask.Planned = append(ask.Planned, api.PartitionOffset{Partition: p.Partition, Offset: p.To})
	}
	done, err := c.Rewind(ctx, ask)
	if err != nil {
		return err
	}
	if o.asJSON {
		return view.JSON(a.out, done)
	}
	return view.RewindDone(a.out, a.style(a.out), done)
}
