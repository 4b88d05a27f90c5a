package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline/record"
	"keystone/reconcile"
)

func benchStore(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.Context(), Options{Dir: b.TempDir(), Env: "default"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// BenchmarkSavePositions saves four partitions of each of n routes at the
// same time; an operation is one route's save.
func BenchmarkSavePositions(b *testing.B) {
	for _, routes := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("routes=%d", routes), func(b *testing.B) {
			p := benchStore(b).Positions("s", "k")
			from := make([]record.Position, 4)
			for i := range from {
				from[i] = record.Position{Partition: int32(i), Offset: 1, Identity: "0123456789abcdef"}
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ResetTimer()
			for i := range routes {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := p.SavePositions(context.Background(), addr.New("route", fmt.Sprintf("r%d", i)), from, nil); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkLoadApplied reads 10,000 routes, as a server does when it starts.
func BenchmarkLoadApplied(b *testing.B) {
	s := benchStore(b)
	sink := &configs.Resource{Addr: addr.New("sink", "s"), Kind: "file", Options: map[string]configs.Option{}}
	var rows []reconcile.Applied
	for i := range 10_000 {
		a := addr.New("route", fmt.Sprintf("r%d", i))
		r := &configs.Resource{Addr: a, Options: map[string]configs.Option{}}
		for j := range 25 {
			r.Options[fmt.Sprintf("option.%d", j)] = configs.Option{Canonical: fmt.Sprintf("%q", a)}
		}
		rows = append(rows, reconcile.Applied{Addr: a, Resource: r, Deps: map[addr.Addr]*configs.Resource{sink.Addr: sink}, At: time.Unix(1, 0)})
	}
	if err := s.SaveApplied(b.Context(), rows, nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if rows, err := s.LoadApplied(b.Context()); err != nil || len(rows) != 10_000 {
			b.Fatal(len(rows), err)
		}
	}
}
