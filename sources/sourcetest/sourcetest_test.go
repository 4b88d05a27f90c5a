package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"keystone/pipeline/record"
	"keystone/sources"
)

// memory is a right source over slices; offsets are three apart.
type memory struct {
	logs   map[int32][]string
	at     map[int32]int64
	paused map[int32]bool
}

func (m *memory) Open(_ context.Context, from []record.Position, l sources.Listener) error {
	if m.logs == nil {
		return errors.New("nothing to read from")
	}
	m.at, m.paused = map[int32]int64{}, map[int32]bool{}
	for p := range m.logs {
		m.at[p] = 0
	}
	for _, p := range from {
		m.at[p.Partition] = p.Offset
	}
	for p, o := range m.at {
		l.Assigned([]record.Position{{Partition: p, Offset: o}})
	}
	return nil
}

func (m *memory) Read(ctx context.Context, b *record.Batch) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	n := 7
	if w := b.Want.Records; w > 0 {
		n = min(n, w)
	}
	for p := range int32(len(m.logs)) {
		i := int(m.at[p]+2) / 3
		if i == len(m.logs[p]) || m.paused[p] {
			continue
		}
		for _, v := range m.logs[p][i:min(i+n, len(m.logs[p]))] {
			b.Records = append(b.Records, record.Record{Offset: int64(i) * 3, Value: []byte(v)})
			b.Bytes += len(v)
			i++
		}
		b.Partition, m.at[p] = p, int64(i)*3
		b.Next = record.Position{Partition: p, Offset: int64(i)*3 - 2}
		return nil
	}
	return io.EOF
}

func (m *memory) Commit(context.Context, []record.Position) error { return nil }
func (m *memory) Close(context.Context) error                     { return nil }
func (m *memory) Pause(parts []int32) {
	for _, p := range parts {
		m.paused[p] = true
	}
}
func (m *memory) Resume(parts []int32) { clear(m.paused) }

// TestHarness runs everything against a source that is right.
func TestHarness(t *testing.T) {
	Run(t, func(*testing.T) Case {
		logs := map[int32][]string{}
		for i := range 50 {
			logs[int32(i%2)] = append(logs[int32(i%2)], fmt.Sprintf("value %d", i))
		}
		return Case{
			New:        func() sources.Source { return &memory{logs: logs} },
			Want:       logs,
			Bounded:    true,
			HeedsWant:  true,
			Unopenable: func() sources.Source { return &memory{} },
		}
	})
}
