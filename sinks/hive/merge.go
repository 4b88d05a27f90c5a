package hive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"keystone/sinks/hive/rows"
	"keystone/sources/hive/chain"
	"keystone/sources/hive/storage"
)

// unmergeable is a file that cannot be merged, now or later.
type unmergeable struct {
	name string
	err  error
}

func (u *unmergeable) Error() string { return fmt.Sprintf("%s: %v", u.name, u.err) }
func (u *unmergeable) Unwrap() error { return u.err }

const (
	wholeMost = 8 << 20 // of an object: a smaller one is read at once
	partsMost = 128     // files that are open at once, each with at most wholeMost in memory
	groupSize = rows.RowGroupBytesDefault
	heldMost  = 64 << 20 // bytes of objects that were read whole
)

// part is an open file.
type part struct {
	*rows.Part
	name string
	size int64
	held int64
	io.Closer
}

// open opens a file to be merged.
func (k *compactor) open(ctx context.Context, folder, name string) (*part, error) {
	full := folder + "/" + name
	info, err := k.st.Stat(ctx, full)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, &unmergeable{full, err}
	}
	if err != nil {
		return nil, err
	}
	p := &part{name: name, size: info.Size, Closer: io.NopCloser(nil)}
	var r io.ReaderAt
	if _, local := k.st.(storage.Appender); !local && info.Size <= wholeMost {
		b, err := k.st.Get(ctx, full)
		if err != nil {
			return nil, err
		}
		r, p.held = bytes.NewReader(b), info.Size
	} else {
		o, err := k.st.Open(ctx, full)
		if err != nil {
			return nil, err
		}
		r, p.Closer = o, o
	}
	if p.Part, err = rows.OpenPart(r, info.Size); err != nil {
		return nil, errors.Join(&unmergeable{full, err}, p.Close())
	}
	return p, nil
}

// pace waits as long as reading n bytes has to take.
func (k *compactor) pace(ctx context.Context, n int64) error {
	for k.rate != nil && n > 0 {
		step := min(n, int64(k.rate.Burst()))
		if err := k.rate.WaitN(ctx, int(step)); err != nil {
			return err
		}
		n -= step
	}
	return k.keep(ctx)
}

// merge writes and stages the files that a compaction makes. Files of one route, generation and source with the same columns go together.
func (k *compactor) merge(ctx context.Context, c *chain.Compaction) ([]chain.Merged, error) {
	groups := map[string][]string{} // by stem and columns
	for _, name := range c.Plan.Inputs {
		p, err := k.open(ctx, c.Plan.From, name)
		if err != nil {
			return nil, err
		}
		stem, _, _ := stemOf(name)
		key := stem + "\n" + p.Columns()
		groups[key] = append(groups[key], name)
		if err := p.Close(); err != nil {
			return nil, err
		}
		if err := k.pace(ctx, p.held); err != nil {
			return nil, err
		}
	}
	var keys []string
	for key := range groups {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	m := &merging{k: k, c: c}
	for _, key := range keys {
		if err := m.group(ctx, groups[key]); err != nil {
			return nil, errors.Join(err, m.drop(ctx))
		}
	}
	return m.done, nil
}

// merging makes the files of one compaction.
type merging struct {
	k    *compactor
	c    *chain.Compaction
	done []chain.Merged

	open  []*part
	batch []rows.Group
	bytes int64 // of the batch
	held  int64

	out   *rows.Merger
	spool spool
	now   chain.Merged // that is written
	rows  int64        // that it is to have
}

// group merges files that have the same columns.
func (m *merging) group(ctx context.Context, names []string) error {
	for _, name := range names {
		p, err := m.k.open(ctx, m.c.Plan.From, name)
		if err != nil {
			return err
		}
		m.open = append(m.open, p)
		m.held += p.held
		if err := m.k.pace(ctx, p.size); err != nil {
			return err
		}
		if m.out == nil {
			m.begin(p)
		}
		m.now.Inputs = append(m.now.Inputs, name)
		m.rows += p.Rows()
		for i, size := range p.RowGroups() {
			m.batch = append(m.batch, rows.Group{Part: p.Part, Index: i})
			if m.bytes += size; m.bytes >= groupSize {
				if err := m.flush(ctx); err != nil {
					return err
				}
			}
		}
		if len(m.open) >= partsMost || m.held >= heldMost || m.out.Written()+m.bytes/2 >= m.k.cfg.Compact.Target {
			if err := m.flush(ctx); err != nil {
				return err
			}
			if err := m.close(); err != nil {
				return err
			}
		}
		if m.out.Written() >= m.k.cfg.Compact.Target {
			if err := m.end(ctx); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(m.flush(ctx), m.close()); err != nil {
		return err
	}
	return m.end(ctx)
}

func (m *merging) begin(like *part) {
	n := len(m.done)
	stem, _, _ := stemOf(like.name)
	m.now = chain.Merged{
		Name:   fmt.Sprintf("%s-c%010d-%04d.parquet", stem, m.c.Number, n),
		Staged: fmt.Sprintf("%s%s/%010d-%s-%d", stagedMerges, m.c.Dir, m.c.Number, m.k.s.writer, n),
	}
	m.spool, m.rows = spool{}, 0
	m.out = rows.NewMerger(&m.spool, like.Part, m.k.cfg.Compression)
}

// flush writes the batch as one row group.
func (m *merging) flush(ctx context.Context) error {
	if len(m.batch) == 0 {
		return nil
	}
	if err := m.out.Append(m.batch); err != nil {
		return &unmergeable{m.now.Inputs[len(m.now.Inputs)-1] + ", or one before it", err}
	}
	m.batch, m.bytes = m.batch[:0], 0
	if err := m.spool.drain(ctx, m.k.s, m.now.Staged); err != nil {
		return err
	}
	return m.k.keep(ctx)
}

// close closes the files whose row groups are written.
func (m *merging) close() error {
	var errs []error
	for _, p := range m.open {
		errs = append(errs, p.Close())
	}
	m.open, m.held = nil, 0
	return errors.Join(errs...)
}

// end finishes the file that is written, and stages it.
func (m *merging) end(ctx context.Context) error {
	if m.out == nil {
		return nil
	}
	stats, err := m.out.Close(rows.KeyValue{Key: "keystone.merged", Value: strconv.Itoa(len(m.now.Inputs))})
	if err != nil {
		return err
	}
	if stats.Rows != m.rows {
		return &unmergeable{m.now.Name, fmt.Errorf("it has %d rows, and those that it is made of have %d", stats.Rows, m.rows)}
	}
	if err := m.spool.deliver(ctx, m.k.s, m.now.Staged); err != nil {
		return err
	}
	m.now.Rows, m.now.Bytes = stats.Rows, stats.Bytes
	m.done, m.out = append(m.done, m.now), nil
	return nil
}

// drop gives up what is not finished.
func (m *merging) drop(ctx context.Context) error {
	m.spool.discard(ctx, m.k.s, m.now.Staged)
	return m.close()
}
