package job

// memory keeps what a task holds of its state within its share of the job's.
type memory struct {
	t      *task
	limit  int64
	used   int64
	shown  int64
	tables []interface{ evict(target int64) }
	tried  int64 // the last committed epoch when nothing more could be evicted
}

// leastMemory is what a task has at least.
const leastMemory = 1 << 20

func newMemory(t *task) *memory {
	keyed := 0
	for _, n := range t.j.graph.order {
		if !n.reads() {
			keyed++
		}
	}
	total := t.j.cfg.State.Memory
	if total <= 0 {
		total = 256 << 20
	}
	return &memory{t: t, limit: max(t.j.leastMemory, total/int64(keyed*t.j.tasks)), tried: -1}
}

// keep evicts what is durable when there is too much; where too little is, it asks for an epoch.
func (m *memory) keep() error {
	if d := m.used - m.shown; d > 64<<10 || d < -64<<10 {
		m.t.j.graph.counts[m.t.n.op].state.add(d)
		m.shown = m.used
	}
	if m.used <= m.limit {
		return nil
	}
	done := m.t.j.committed.Load()
	if m.tried == done {
		return nil
	}
	target := m.limit - m.limit/8
	for _, t := range m.tables {
		t.evict(target)
	}
	if m.used > target {
		m.tried = done
		m.t.j.askEpoch()
	}
	return nil
}
