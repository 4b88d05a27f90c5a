package wire

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs/addr"
	"keystone/pipeline/record"
)

// notebook keeps the last positions that were saved, and counts.
type notebook struct {
	from  []record.Position
	saves int
	err   error
}

func (n *notebook) LoadPositions(context.Context, addr.Addr) ([]record.Position, []byte, error) {
	return n.from, nil, nil
}

func (n *notebook) SavePositions(_ context.Context, _ addr.Addr, from []record.Position, _ []byte) error {
	if n.err != nil {
		return n.err
	}
	n.from, n.saves = append([]record.Position(nil), from...), n.saves+1
	return nil
}

// TestMirror: positions are written at the interval and at the end, always
// the newest, and a write that failed is not forgotten.
func TestMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, route := &notebook{}, addr.New("route", "plays")
		m := &mirror{to: n, route: route, log: slog.New(slog.DiscardHandler)}
		save := func(offset int64) error {
			return m.SavePositions(t.Context(), route, []record.Position{{Partition: 1, Offset: offset}}, nil)
		}
		expect := func(what string, saves int, offset int64) {
			t.Helper()
			if n.saves != saves || len(n.from) != 1 || n.from[0].Offset != offset {
				t.Errorf("%s: %d saves, the last %+v; want %d saves, the last at %d", what, n.saves, n.from, saves, offset)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(save(1))
		expect("the first", 1, 1)
		must(save(2))
		expect("soon after", 1, 1)
		time.Sleep(mirrorInterval)
		must(save(3))
		expect("after the interval", 2, 3)
		must(save(4))
		must(m.Flush(t.Context()))
		expect("at the end", 3, 4)
		must(m.Flush(t.Context()))
		expect("at the end again", 3, 4)

		time.Sleep(mirrorInterval)
		n.err = errors.New("disk full")
		must(save(5)) // the group's commit goes on
		if err := m.Flush(t.Context()); !errors.Is(err, n.err) {
			t.Errorf("got %v, want the store's error", err)
		}
		n.err = nil
		must(m.Flush(t.Context()))
		expect("after a failure", 4, 5)
	})
}
