package wire

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/pipeline"
	"keystone/reconcile"
	"keystone/reconcile/store"
	"keystone/sources/kafka/admin"
)

// Run runs one route or job until its source ends, the limit is reached, or ctx is done.
// Being stopped by ctx is not an error.
func Run(ctx context.Context, s RunSpec) (RunResult, error) {
	if s.Addr.Type == "job" {
		return runJob(ctx, s)
	}
	began := time.Now()
	p := newPlant(s.Config, s.Log)
	p.joins = true
	defer p.close()
	route, err := replaceEnds(s)
	if err != nil {
		return RunResult{}, err
	}
	if route.Delivery.Guarantee == configs.ExactlyOnce {
		// A run by itself reads everything again the next time, and its dead letters go to a file.
		route.Delivery.Guarantee = configs.AtLeastOnce
	}
	j := job{cfg: s.Config, route: route, topics: ownTopics(s.Config), limit: s.Limit, oneShot: true}
	if s.Resume {
		state, err := store.Open(ctx, store.Options{Dir: s.Config.StateDirPath(), Env: s.Config.Env, Namespace: s.Config.Settings.Namespace})
		if err != nil {
			return RunResult{}, err
		}
		defer state.Close() //nolint:errcheck // what counts was committed
		p.generation = state.Generation
		p.positions = func(source, sink string) pipeline.Positions { return state.Positions(source, sink) }
		j.store, j.oneShot, j.as = true, false, runAddr(route.Addr)
	}
	forget, err := p.readyStreams(ctx, &j, s.Resume)
	if err != nil {
		return RunResult{}, err
	}
	defer forget()
	w, flush, err := p.build(ctx, j)
	if err != nil {
		return RunResult{}, err
	}
	result, err := foreground(ctx, w, s.Progress, began)
	if result.Counters.DeadLettered > 0 && j.lettersInFile() {
		result.DeadLetters = p.letterFile(route.Addr)
	}
	return result, errors.Join(err, flush(context.WithoutCancel(ctx)))
}

// runAddr is under which `keystone run -resume` keeps positions: apart from those of the served route.
func runAddr(a addr.Addr) addr.Addr { a.Type = "run"; return a }

// foreground runs the worker, drains it when ctx ends, and tells how it goes.
func foreground(ctx context.Context, w *pipeline.Worker, progress func(reconcile.State), began time.Time) (RunResult, error) {
	defer context.AfterFunc(ctx, func() { _ = w.Drain(context.Background()) })() // bounded by drain_timeout; Run gives the error
	stop := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if progress != nil {
					stats := w.Stats()
					st := reconcile.State{Counters: counters(stats), Lag: stats.Lag}
					st.Activity, st.Health, st.Error = describe(stats)
					progress(st)
				}
			}
		}
	}()
	err := w.Run(context.WithoutCancel(ctx))
	close(stop)
	<-told
	stats := w.Stats()
	return RunResult{Counters: counters(stats), Duration: time.Since(began), Hints: stats.Hints}, err
}

// replaceEnds gives the route with its source and sink as the flags say. The
// configuration gets blocks for files and standard streams that it does not declare.
func replaceEnds(s RunSpec) (*configs.Route, error) {
	declared := s.Config.Routes[s.Addr]
	if declared == nil {
		return nil, fmt.Errorf("there is no %s", s.Addr)
	}
	route := *declared
	if s.From != "" {
		a, err := replacement(s.Config, s.From, "source", "stream")
		if err != nil {
			return nil, fmt.Errorf("-from %s: %w", s.From, err)
		}
		route.From = spec.Ref{Addr: a}
	}
	if s.To != "" {
		a, err := replacement(s.Config, s.To, "sink", "stream")
		if err != nil {
			return nil, fmt.Errorf("-to %s: %w", s.To, err)
		}
		route.To = spec.Ref{Addr: a}
		if err := recheck(s.Config, &route, declared.To.Addr); err != nil {
			return nil, err
		}
	}
	return &route, nil
}

// recheck leaves out what the declared sink wants of events, and checks the rest again.
func recheck(cfg *configs.Config, route *configs.Route, declared addr.Addr) error {
	if route.To.Addr == declared {
		return nil
	}
	events := route.Events
	if cfg.Sinks[route.To.Addr] != nil {
		events.Derived = nil
	}
	checked, diags := dsl.CheckRoute(events)
	if err := diags.Err(); err != nil {
		return err
	}
	route.Events, route.Checked = events, checked
	return nil
}

// replacement gives the address of a declared block, or adds a block for file:PATH, stdin, stdout, discard.
func replacement(cfg *configs.Config, text string, types ...string) (addr.Addr, error) {
	kind, path, _ := strings.Cut(text, ":")
	if a, err := addr.Parse(text); err == nil {
		if a.Type != types[0] && a.Type != types[1] {
			return a, fmt.Errorf("a %s does not belong there", a.Type)
		}
		if cfg.Sources[a] == nil && cfg.Sinks[a] == nil && cfg.Streams[a] == nil {
			return a, fmt.Errorf("there is no %s", a)
		}
		return a, nil
	}
	body := spec.Body{Attrs: map[string]spec.Attr{}}
	a := addr.New(types[0], "from_the_command_line")
	if kind == "file" {
		path, err := filepath.Abs(path)
		if err != nil {
			return a, err
		}
		body.Attrs["path"] = spec.Attr{Value: literalPath(path, types[0])}
	}
	var diags diag.Diagnostics
	if types[0] == "source" {
		for _, k := range Catalog().Sources {
			if k.Name == kind {
				c := k.New()
				diags = append(spec.Decode(c.Options(), body), c.Check()...)
				cfg.Sources[a] = &configs.Source{Addr: a, Kind: kind, Config: c}
				return a, diags.Err()
			}
		}
	} else {
		for _, k := range Catalog().Sinks {
			if k.Name == kind {
				c := k.New()
				diags = append(spec.Decode(c.Options(), body), c.Check()...)
				cfg.Sinks[a] = &configs.Sink{Addr: a, Kind: kind, Config: c}
				return a, diags.Err()
			}
		}
	}
	return a, fmt.Errorf("there is no %s %q", types[0], kind)
}

// literalPath escapes what patterns mean, for options that are patterns.
func literalPath(path, blockType string) spec.Value {
	if blockType == "sink" {
		return diag.Text{S: strings.NewReplacer("{", "{{", "}", "}}").Replace(path)}
	}
	return path
}

func ownTopics(cfg *configs.Config) func(addr.Addr) string {
	return func(a addr.Addr) string {
		if s := cfg.Streams[a]; s != nil {
			return s.Topic
		}
		return ""
	}
}

// readyStreams makes the topics of the route's streams where they are managed
// here, and names its consumer group. Without -resume the group is used once
// and forgotten.
func (p *plant) readyStreams(ctx context.Context, j *job, resume bool) (forget func(), _ error) {
	r := j.route
	for _, a := range []addr.Addr{r.From.Addr, r.To.Addr} {
		s := j.cfg.Streams[a]
		if s == nil || !s.ManagedHere() {
			continue
		}
		adm, err := p.admin(ctx, j.cfg.Clusters[s.Cluster])
		if err != nil {
			return nil, err
		}
		if err := ensureTopic(ctx, adm, topicOf(s, s.Topic)); err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
	}
	j.group = r.Group + ".run"
	from := j.cfg.ClusterOf(r.From.Addr)
	if resume || from == nil {
		return func() {}, nil
	}
	j.group += "." + strings.ToLower(rand.Text()[:8])
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if adm, err := p.admin(ctx, from); err == nil {
			if err := adm.DeleteGroups(ctx, j.group); err != nil {
				p.log.Warn("the group of this run is left behind", "group", j.group, "error", err)
			}
		}
	}, nil
}

// ensureTopic brings one topic about; what it cannot change is an error.
func ensureTopic(ctx context.Context, adm *admin.Admin, t admin.StreamSpec) error {
	made, err := adm.Ensure(ctx, t)
	if err != nil {
		return err
	}
	return made[t.Topic].Err
}
