package pipeline_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"keystone/configs"
	"keystone/pipeline"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources"
)

// late commits, and loses the answer when it is told to.
type late struct {
	sinks.Transactional
	inside chan struct{} // closed in the first commit, when it has taken effect
	answer chan struct{}
	n      int
}

func (f *late) Commit(ctx context.Context, at record.GroupOffsets) error {
	err := f.Transactional.Commit(ctx, at)
	if f.n++; f.n > 1 || err != nil {
		return err
	}
	close(f.inside)
	<-f.answer
	return errors.New("no answer")
}

// told closes revoked when the source takes partitions away.
type told struct {
	sources.Transacted
	revoked chan struct{}
}

type toldListener struct {
	sources.Listener
	revoked chan struct{}
}

func (s told) Open(ctx context.Context, from []record.Position, l sources.Listener) error {
	return s.Transacted.Open(ctx, from, toldListener{l, s.revoked})
}

func (l toldListener) Revoked(ctx context.Context, parts []int32) {
	select {
	case <-l.revoked:
	default:
		close(l.revoked)
	}
	l.Listener.Revoked(ctx, parts)
}

// TestExactlyOnceUnknownOutcomeAtTheEnd loses the answer of the last commit of a worker: nobody
// begins behind it there, and what it had counts all the same.
func TestExactlyOnceUnknownOutcomeAtTheEnd(t *testing.T) {
	l := newLab(t)
	f := &late{inside: make(chan struct{}), answer: make(chan struct{})}
	l.wrap = func(s sinks.Transactional) sinks.Sink { f.Transactional = s; return f }
	l.write(20, nil)
	w := l.start(configs.DeadLetter)
	<-f.inside
	go func() {
		for w.Stats().Activity != pipeline.Draining {
			runtime.Gosched()
		}
		close(f.answer)
	}()
	w.drain()
	ended := w.Stats().Total
	l.wrap = nil
	next := l.start(configs.DeadLetter)
	l.settled()
	next.drain()
	l.once("out", kept)
	if c := next.Stats().Total; ended.Delivered == 0 || ended.Delivered+c.Delivered != labParts*18 {
		t.Errorf("%+v, then %+v", ended, c)
	}
}

// TestExactlyOnceUnknownOutcomeAtARevocation loses the answer while partitions go to another worker.
func TestExactlyOnceUnknownOutcomeAtARevocation(t *testing.T) {
	l := newLab(t)
	f := &late{inside: make(chan struct{}), answer: make(chan struct{})}
	l.wrap = func(s sinks.Transactional) sinks.Sink { f.Transactional = s; return f }
	l.from = func(s sources.Transacted) sources.Source { return told{s, f.answer} }
	l.write(20, nil)
	a := l.start(configs.DeadLetter)
	<-f.inside
	l.wrap, l.from = nil, nil
	b := l.start(configs.DeadLetter)
	b.owns(1)
	l.write(20, nil)
	l.settled()
	a.drain()
	b.drain()
	l.once("out", kept)
	if c, d := a.Stats().Total, b.Stats().Total; c.Delivered+d.Delivered != labParts*36 {
		t.Errorf("%+v and %+v", c, d)
	}
}
