package wire

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"keystone/configs/addr"
	"keystone/pipeline"
	"keystone/pipeline/record"
)

// mirrorInterval is how old the mirrored positions of a stream may be.
const mirrorInterval = 5 * time.Second

// mirror copies what a route commits to its consumer group into the store, now
// and then. The group's own offsets count as long as there are any; when they
// expire or are lost, the route goes on from the mirror and not from `start`. A
// store that fails therefore holds up no commit: it is logged and tried again.
type mirror struct {
	to    pipeline.Positions
	route addr.Addr
	log   *slog.Logger

	mu      sync.Mutex // guards what follows; held while the store writes, so that the newest is written last
	saved   time.Time
	pending []record.Position
}

// LoadPositions gives the mirrored positions.
func (m *mirror) LoadPositions(ctx context.Context, route addr.Addr) ([]record.Position, []byte, error) {
	return m.to.LoadPositions(ctx, route)
}

// SavePositions keeps positions, and writes them if the last time was long ago.
func (m *mirror) SavePositions(ctx context.Context, _ addr.Addr, from []record.Position, _ []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = append(m.pending[:0], from...)
	if time.Since(m.saved) < mirrorInterval {
		return nil
	}
	if err := m.flush(ctx); err != nil {
		m.saved = time.Now() // the next attempt is not at once
		m.log.Warn("the mirrored positions are older than the group's own", "error", err)
	}
	return nil
}

// Flush writes what is not written yet: when the worker has ended.
func (m *mirror) Flush(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flush(ctx)
}

func (m *mirror) flush(ctx context.Context) error {
	if len(m.pending) == 0 {
		return nil
	}
	if err := m.to.SavePositions(ctx, m.route, m.pending, nil); err != nil {
		return err
	}
	m.saved, m.pending = time.Now(), m.pending[:0]
	return nil
}
