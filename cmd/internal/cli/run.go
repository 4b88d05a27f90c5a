package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"keystone/cmd/internal/view"
	"keystone/cmd/internal/wire"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/reconcile"
)

type runOptions struct {
	scope
	from, to     string
	limit        int64
	resume       bool
	asJSON       bool
	debug, quiet bool
}

func (a *App) runCommand() *command {
	var o runOptions
	cmd := &command{
		Use:   "run [flags] ROUTE|JOB [DIR]",
		Short: "Run one route or job in the foreground",
		Long: "Runs one route or job without a server, with its source or sink replaced where asked. It ends when\n" +
			"its source does, at -limit, or when interrupted: then what is in flight is finished first.\n" +
			"Offsets, and the state of a job, are stored only with -resume. A job over a source that ends closes all its\n" +
			"windows; where it has several reads or writes, -from and -to take NAME=SOURCE and NAME=SINK, with commas between.",
		Example: "  keystone run route.plays -from file:events.ndjson -to stdout\n  keystone run route.plays -limit 1000 -to discard -json\n  keystone run job.sessions -from plays=file:events.ndjson -to stdout",
		Args:    between(1, 2, "the address of a route or job, such as route.plays, and at most one directory"),
		RunE: func(cmd *command, args []string) error {
			dir, err := dirArg(args, 1)
			if err != nil {
				return err
			}
			return a.run(cmd.Context(), o, args[0], dir)
		},
	}
	f := cmd.Flags()
	o.flags(f)
	cmd.ValidArgsFunction = a.completes(&o.scope, "route", "job")
	f.StringVar(&o.from, "from", "", "read `SOURCE` instead: file:PATH, stdin, or a declared source or stream")
	f.StringVar(&o.to, "to", "", "write to `SINK` instead: stdout, file:PATH, discard, or a declared sink or stream")
	f.Int64Var(&o.limit, "limit", 0, "stop after reading `N` records")
	f.BoolVar(&o.resume, "resume", false, "start where the last run with -resume stopped, and store positions")
	f.BoolVar(&o.asJSON, "json", false, "print the counts as one JSON object: on stdout, or on stderr where events go to stdout")
	f.BoolVar(&o.debug, "debug", false, "log more")
	f.BoolVar(&o.quiet, "quiet", false, "print neither progress nor summary")
	return cmd
}

func (a *App) run(ctx context.Context, o runOptions, name, dir string) error {
	if o.limit < 0 {
		return usagef("-limit %d: write a positive number, or leave it out to read all", o.limit)
	}
	if err := checkReplacement("-from", o.from, "file:PATH", "stdin"); err != nil {
		return err
	}
	if err := checkReplacement("-to", o.to, "file:PATH", "stdout", "discard"); err != nil {
		return err
	}
	for from := range strings.SplitSeq(o.from, ",") {
		if path, ok := strings.CutPrefix(endOf(from), "file:"); ok {
			if _, err := os.Stat(path); err != nil {
				return usagef("-from %s: %v", o.from, err)
			}
		}
	}
	l, err := a.load(o.scope, dir)
	if err != nil {
		return err
	}
	route, err := findRunnable(l.cfg, name)
	if err != nil {
		return err
	}
	progress := &view.Progress{W: a.err, Style: a.style(a.err), Start: time.Now()}
	eventsOnStdout := writesStdout(l.cfg, route, o.to)
	if eventsOnStdout && view.StyleOf(a.out, view.Never, a.getenv).Width > 0 || o.quiet {
		progress.Style = view.Style{} // a line that rewrites itself between events is unreadable
	}
	result, err := a.deps.Run(ctx, wire.RunSpec{Config: l.cfg, Addr: route, From: o.from, To: o.to, Limit: o.limit, Resume: o.resume,
		Log: a.logger(o.debug), Progress: func(st reconcile.State) { progress.Show(st, time.Now()) }})
	progress.End()
	r := view.NewRunResult(route.String(), result.Counters, result.Duration)
	r.Stopped, r.DeadLetters, r.Hints = ctx.Err() != nil, result.DeadLetters, result.Hints
	if eventsOnStdout && errors.Is(err, syscall.EPIPE) {
		r.Stopped, err = true, nil // `keystone run … | head` has seen enough
	}
	if err != nil {
		r.Error = err.Error()
	}
	return errors.Join(err, a.runResult(r, o, eventsOnStdout))
}

// runResult says what came of it, and never between events.
func (a *App) runResult(r view.RunResult, o runOptions, eventsOnStdout bool) error {
	switch {
	case o.asJSON && eventsOnStdout:
		return view.JSONLine(a.err, r)
	case o.asJSON:
		return view.JSONLine(a.out, r)
	case o.quiet:
		return nil
	}
	return view.RunSummary(a.err, a.style(a.err), r)
}

// endOf gives the source or sink of NAME=END; of a file's path only what stands before it can be a name.
func endOf(text string) string {
	if name, end, ok := strings.Cut(text, "="); ok && addr.IsLabel(name) {
		return end
	}
	return text
}

// checkReplacement refuses what is neither a short form nor an address.
func checkReplacement(flag, value string, forms ...string) error {
	if name, _, ok := strings.Cut(value, "="); ok && addr.IsLabel(name) {
		for part := range strings.SplitSeq(value, ",") {
			if err := checkReplacement(flag, endOf(part), forms...); err != nil {
				return err
			}
		}
		return nil
	}
	kind, path, hasPath := strings.Cut(value, ":")
	switch {
	case value == "":
		return nil
	case hasPath && path == "" && slices.Contains(forms, kind+":PATH"):
		return usagef("%s %s: name the file, such as %sevents.ndjson", flag, value, value)
	case slices.Contains(forms, value), hasPath && slices.Contains(forms, kind+":PATH"):
		return nil
	}
	if _, err := addr.Parse(value); err == nil {
		return nil
	}
	return usagef("%s %s: it may be %s or the address of a block.%s", flag, value, strings.Join(forms, ", "), diag.DidYouMean(value, forms))
}

// findRunnable finds a route or job by address, or a route by its bare name.
func findRunnable(cfg *configs.Config, name string) (addr.Addr, error) {
	var known []string
	for a := range cfg.Routes {
		known = append(known, a.String())
	}
	for a := range cfg.Jobs {
		known = append(known, a.String())
	}
	slices.Sort(known)
	if !strings.Contains(name, ".") {
		if name = "route." + name; !slices.Contains(known, name) && slices.Contains(known, "job."+name[len("route."):]) {
			name = "job." + name[len("route."):]
		}
	}
	a, err := addr.Parse(name)
	if err != nil {
		return a, usagef("%v", err)
	}
	if a.Type != "route" && a.Type != "job" {
		return a, usagef("%s is a %s; only routes and jobs can be run", name, a.Type)
	}
	if cfg.Routes[a] != nil || cfg.Jobs[a] != nil {
		return a, nil
	}
	text := fmt.Sprintf("there is no %s.%s", name, diag.DidYouMean(name, known))
	switch {
	case len(known) == 0:
		text += " The configuration declares no route."
	case len(known) <= 10:
		text += " There are: " + strings.Join(known, ", ") + "."
	}
	return a, usagef("%s", text)
}

// writesStdout tells whether events go to this process's standard output.
func writesStdout(cfg *configs.Config, route addr.Addr, to string) bool {
	if j := cfg.Jobs[route]; j != nil {
		if to != "" {
			return strings.HasSuffix(to, "stdout")
		}
		return slices.ContainsFunc(j.Operators, func(o *configs.Operator) bool {
			return o.Write != nil && cfg.Sinks[o.Write.To.Addr] != nil && cfg.Sinks[o.Write.To.Addr].Kind == "stdout"
		})
	}
	target := cfg.Routes[route].To.Addr
	switch to {
	case "":
	case "stdout":
		return true
	default:
		a, err := addr.Parse(to)
		if err != nil {
			return false
		}
		target = a
	}
	sink, ok := cfg.Sinks[target]
	return ok && sink.Kind == "stdout"
}
