package kafka_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
	sinkkafka "keystone/sinks/kafka"
	"keystone/sources"
	"keystone/sources/kafka"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
)

// A thousand idle routes on the embedded broker fit in 600 MB: one takes at
// most 450 KiB, its share of the broker included. KEYSTONE_TEST_ROUTES says how many to open.
func TestIdleRoutes(t *testing.T) {
	routes := 200
	if s := os.Getenv("KEYSTONE_TEST_ROUTES"); s != "" {
		var err error
		if routes, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	o := startEmbedded(t)
	a, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var specs []admin.StreamSpec
	for i := range routes {
		specs = append(specs, admin.StreamSpec{Topic: fmt.Sprintf("in-%d", i), Partitions: 1})
	}
	ensure(t, a, admin.StreamSpec{Topic: "out", Partitions: 1})
	if _, err := a.Ensure(within(t), specs...); err != nil {
		t.Fatal(err)
	}
	pool := client.NewPool()
	assigned := make(chan int32, routes)
	began := time.Now()
	opens := make(chan struct{}, 8)
	var all sync.WaitGroup
	srcs, dsts := make([]sources.Source, routes), make([]sinks.Sink, routes)
	for i := range routes {
		opens <- struct{}{}
		all.Go(func() {
			defer func() { <-opens }()
			s, err := (&kafka.Config{Client: o, Topic: specs[i].Topic, Group: fmt.Sprintf("g-%d", i)}).New(sources.Deps{})
			if err == nil {
				err = s.Open(context.Background(), nil, assigner{quiet{}, assigned})
			}
			srcs[i] = s
			if err == nil {
				dsts[i], err = (&sinkkafka.Config{Client: o, Pool: pool, Topic: "out"}).New(sinks.Deps{})
			}
			if err == nil {
				err = dsts[i].Open(context.Background())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for range routes {
		select {
		case <-assigned:
		case <-within(t).Done():
			t.Fatal("not all routes got their partition")
		}
	}
	took := time.Since(began)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	used := m.HeapInuse + m.StackInuse
	t.Logf("%d routes open after %v: heap %d MiB, stacks %d MiB, %d goroutines, %d producers; %d KiB a route", routes, took, m.HeapInuse>>20, m.StackInuse>>20, runtime.NumGoroutine(), pool.Len(), used>>10/uint64(routes))
	if limit := uint64(routes) * 450 << 10; used > limit {
		t.Errorf("%d MiB, want at most %d", used>>20, limit>>20)
	}
	for i := range routes {
		opens <- struct{}{}
		all.Go(func() {
			defer func() { <-opens }()
			_ = srcs[i].Close(within(t))
			_ = dsts[i].Close(within(t))
		})
	}
	all.Wait()
}

type assigner struct {
	quiet
	c chan int32
}

func (a assigner) Assigned(ps []record.Position) { a.c <- ps[0].Partition }
