package wire

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"keystone/configs"
	"keystone/configs/spec"
	"keystone/reconcile"
)

// runJob runs one job until its sources end, or ctx does. Without -resume its state is in a directory of its own, which goes
// with the run.
func runJob(ctx context.Context, s RunSpec) (RunResult, error) {
	began := time.Now()
	declared := s.Config.Jobs[s.Addr]
	if declared == nil {
		return RunResult{}, fmt.Errorf("there is no %s", s.Addr)
	}
	if s.Limit > 0 {
		return RunResult{}, errors.New("-limit is for routes: what a job gives depends on all that it reads; give it a smaller input with -from")
	}
	p := newPlant(s.Config, s.Log)
	p.joins = true
	defer p.close()
	j, err := replaceJobEnds(s, declared)
	if err != nil {
		return RunResult{}, err
	}
	b := jobBuild{cfg: s.Config, job: j, group: j.Group + ".run", topics: ownTopics(s.Config), oneShot: true}
	if s.Resume {
		b.oneShot, b.dir = false, jobDir(p.stateDir, runAddr(j.Addr))
	} else if b.dir, err = os.MkdirTemp("", "keystone-job-*"); err != nil {
		return RunResult{}, err
	} else {
		defer os.RemoveAll(b.dir) //nolint:errcheck // of a run that is over
		b.dir = filepath.Join(b.dir, "state")
	}
	for _, a := range j.Ends() {
		st := s.Config.Streams[a]
		if st == nil || !st.ManagedHere() {
			continue
		}
		adm, err := p.admin(ctx, s.Config.Clusters[st.Cluster])
		if err != nil {
			return RunResult{}, err
		}
		if err := ensureTopic(ctx, adm, topicOf(st, st.Topic)); err != nil {
			return RunResult{}, fmt.Errorf("%s: %w", a, err)
		}
	}
	parts, err := p.buildJob(ctx, b)
	if err != nil {
		return RunResult{}, err
	}
	if err = watchJob(ctx, parts, s.Progress); err == nil && ctx.Err() == nil {
		err = parts.out.finish(ctx)
	}
	result := RunResult{Counters: parts.counters(), Duration: time.Since(began)}
	if result.Counters.DeadLettered > 0 {
		result.DeadLetters = parts.out.file
	}
	return result, errors.Join(err, parts.close(context.WithoutCancel(ctx)))
}

// watchJob runs a job, drains it when ctx ends, and tells how it goes.
func watchJob(ctx context.Context, parts *jobParts, progress func(reconcile.State)) error {
	defer context.AfterFunc(ctx, parts.job.Drain)()
	stop, told := make(chan struct{}), make(chan struct{})
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
					st := reconcile.State{Health: reconcile.Running, Lag: -1}
					parts.describe(&st)
					progress(st)
				}
			}
		}
	}()
	err := parts.job.Run(context.WithoutCancel(ctx))
	close(stop)
	<-told
	return err
}

// replaceJobEnds gives the job with its sources and sinks as the flags say: SOURCE for a job with one read, or
// NAME=SOURCE, with commas between; alike for writes, where one sink takes the rows of all.
func replaceJobEnds(s RunSpec, declared *configs.Job) (*configs.Job, error) {
	j := *declared
	j.Operators = copyOperators(declared.Operators)
	var reads, writes []*configs.Operator
	for _, o := range j.Operators {
		switch {
		case o.Read != nil:
			reads = append(reads, o)
		case o.Write != nil:
			writes = append(writes, o)
		}
	}
	err := eachEnd(s.From, "-from", reads, func(o *configs.Operator, text string) error {
		a, err := replacement(s.Config, text, "source", "stream")
		o.Read.From = spec.Ref{Addr: a}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(writes) > 1 && s.To != "" && !strings.Contains(s.To, "=") {
		var all []string
		for _, o := range writes {
			all = append(all, o.Label+"="+s.To)
		}
		s.To = strings.Join(all, ",")
	}
	err = eachEnd(s.To, "-to", writes, func(o *configs.Operator, text string) error {
		a, err := replacement(s.Config, text, "sink", "stream")
		if err != nil {
			return err
		}
		if a != o.Write.To.Addr && s.Config.Sinks[a] != nil {
			program := *o.Write.Program
			program.Derived = nil // what the declared sink wants of rows
			o.Write.Program = &program
		}
		o.Write.To = spec.Ref{Addr: a}
		return nil
	})
	return &j, err
}

// eachEnd calls f for each end that a flag replaces.
func eachEnd(flag, name string, ends []*configs.Operator, f func(*configs.Operator, string) error) error {
	if flag == "" {
		return nil
	}
	if !strings.Contains(flag, "=") {
		if len(ends) != 1 {
			return fmt.Errorf("%s %s: the job has %d of them: write NAME=%s, with commas between several; the names are %s", name, flag, len(ends), flag, labels(ends))
		}
		if err := f(ends[0], flag); err != nil {
			return fmt.Errorf("%s %s: %w", name, flag, err)
		}
		return nil
	}
	for part := range strings.SplitSeq(flag, ",") {
		label, to, _ := strings.Cut(part, "=")
		i := slices.IndexFunc(ends, func(o *configs.Operator) bool { return o.Label == label })
		if i < 0 {
			return fmt.Errorf("%s %s: there is no %q; the names are %s", name, part, label, labels(ends))
		}
		if err := f(ends[i], to); err != nil {
			return fmt.Errorf("%s %s: %w", name, part, err)
		}
	}
	return nil
}

func labels(ops []*configs.Operator) string {
	var names []string
	for _, o := range ops {
		names = append(names, o.Label)
	}
	return strings.Join(names, ", ")
}

// copyOperators copies operators with what refers from one to another, so that their ends can be replaced.
func copyOperators(ops []*configs.Operator) []*configs.Operator {
	copies := make(map[*configs.Operator]*configs.Operator, len(ops))
	out := make([]*configs.Operator, len(ops))
	for i, o := range ops {
		c := *o
		if o.Read != nil {
			read := *o.Read
			c.Read = &read
		}
		if o.Write != nil {
			write := *o.Write
			c.Write = &write
		}
		c.Inputs = slices.Clone(o.Inputs)
		for k := range c.Inputs {
			c.Inputs[k].From = copies[c.Inputs[k].From]
		}
		copies[o], out[i] = &c, &c
	}
	return out
}
