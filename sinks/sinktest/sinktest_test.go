package sinktest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"keystone/pipeline/record"
	"keystone/sinks"
)

// memory is a right sink over a slice, with checkpoints.
type memory struct {
	mu      sync.Mutex
	disk    *[]string
	down    *bool
	restore []byte
}

func (m *memory) Restore(state []byte) { m.restore = state }

func (m *memory) Open(ctx context.Context) error {
	if m.disk == nil {
		return errors.New("nowhere to write to")
	}
	if m.restore == nil {
		return ctx.Err()
	}
	var n int
	if err := json.Unmarshal(m.restore, &n); err != nil {
		return err
	}
	*m.disk = (*m.disk)[:n]
	return ctx.Err()
}

func (m *memory) Write(_ context.Context, b *record.Batch, done func(error)) {
	m.mu.Lock()
	if *m.down {
		m.mu.Unlock()
		done(errors.New("down"))
		return
	}
	var p sinks.PartialError
	for i := range b.Records {
		if strings.Contains(string(b.Records[i].Value), "refuse me") {
			p.Failures = append(p.Failures, sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: "no", Err: errors.New("no")})
			continue
		}
		*m.disk = append(*m.disk, string(b.Records[i].Value))
	}
	m.mu.Unlock()
	if p.Failures != nil {
		done(&p)
		return
	}
	done(nil)
}

func (m *memory) Sync(context.Context) ([]byte, error) { return json.Marshal(len(*m.disk)) }
func (m *memory) Close(context.Context) error          { return nil }

// TestHarness runs everything against a sink that is right.
func TestHarness(t *testing.T) {
	Run(t, func(*testing.T) Case {
		var disk []string
		down := false
		return Case{
			New:        func() sinks.Sink { return &memory{disk: &disk, down: &down} },
			Read:       func(*testing.T) []string { return slices.Clone(disk) },
			Unopenable: func() sinks.Sink { return &memory{} },
			Refused:    []byte(`"refuse me"`),
			Break:      func(*testing.T) func() { down = true; return func() { down = false } },
		}
	})
}

// orderly is a right sink without checkpoints that keeps the order of lanes over failures.
type orderly struct {
	memory memory
	mu     sync.Mutex
	held   map[int32]bool // lanes that have not been told to go on
}

func (o *orderly) Open(ctx context.Context) error { return o.memory.Open(ctx) }
func (o *orderly) Close(context.Context) error    { return nil }
func (o *orderly) KeepsOrder()                    {}

func (o *orderly) Go(partition int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.held, partition)
}

func (o *orderly) Write(ctx context.Context, b *record.Batch, done func(error)) {
	o.mu.Lock()
	held := o.held[b.Partition] && !b.Loose
	o.mu.Unlock()
	if held {
		done(errors.New("an earlier write of the lane failed"))
		return
	}
	o.memory.Write(ctx, b, func(err error) {
		if err != nil && !b.Loose {
			o.mu.Lock()
			o.held[b.Partition] = true
			o.mu.Unlock()
		}
		done(err)
	})
}

// TestHarnessOfOrdered is the same for one that keeps the order.
func TestHarnessOfOrdered(t *testing.T) {
	Run(t, func(*testing.T) Case {
		var disk []string
		down := false
		return Case{
			New: func() sinks.Sink {
				return &orderly{memory: memory{disk: &disk, down: &down}, held: map[int32]bool{}}
			},
			Read:    func(*testing.T) []string { return slices.Clone(disk) },
			Refused: []byte(`"refuse me"`),
			Break:   func(*testing.T) func() { down = true; return func() { down = false } },
		}
	})
}
