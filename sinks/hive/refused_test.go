package hive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources/hive/metastore"
	"keystone/sources/hive/storage"
)

// folds counts what was folded, and the manifests that are not.
func folds(t *testing.T, st storage.Store) (folded, open int) {
	t.Helper()
	for i, err := range st.List(t.Context(), "_keystone/") {
		if err != nil {
			t.Fatal(err)
		}
		base := i.Name[strings.LastIndexByte(i.Name, '/')+1:]
		switch {
		case strings.HasSuffix(i.Name, ".json.gz"):
			folded++
		case len(base) == 20 && !strings.Contains(i.Name, "/staging/"):
			open++
		}
	}
	return folded, open
}

// A partition that the metastore refuses for ever holds up neither the others nor the folding of manifests; it is told,
// tried again, also by the next process, and registered when the metastore takes it.
func TestRefusedPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := objects()
		r := &registrar{poison: "F1", parts: map[string]int{}}
		open := func() *Sink {
			s := testSink(t, st, testConfig(t, nil))
			s.catalog = newCatalog(r, s.log)
			if err := s.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Begin(t.Context(), position(0, 0)); err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		for o := range int64(200) {
			mustPut(t, s, batchOf(0, o, o+1))
			settle(t, s, position(0, o+1))
			time.Sleep(time.Hour)
		}
		if err := s.Trailing(); err == nil || !strings.Contains(err.Error(), "refuses 1 partitions") || !strings.Contains(err.Error(), "dt=2026%3A01%2F1: too long") {
			t.Errorf("told: %v", err)
		}
		if got := r.paths(); len(got) != 3 {
			t.Errorf("registered %q", got)
		}
		if folded, left := folds(t, st); folded != 1 || left > 144 {
			t.Errorf("%d folds, and %d manifests are not folded", folded, left)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.mu.Lock()
		r.poison = ""
		r.mu.Unlock()
		s = open()
		time.Sleep(time.Hour)
		if got := r.paths(); !slices.Contains(got, "dt=2026%3A01%2F1") {
			t.Errorf("after it is mended: registered %q", got)
		}
		for i := range st.List(t.Context(), noted) {
			t.Errorf("%s is left", i.Name)
		}
		if err := errors.Join(s.Trailing(), s.Close(t.Context())); err != nil {
			t.Error(err)
		}
		expect(t, st, 1, 200)
	})
}

// The real metastore has a bound of its own, 767 bytes of a partition's whole name. Many that are longer hold up nothing else.
func TestRealRefusedPartition(t *testing.T) {
	server := metastoreServer(t)
	dir := t.TempDir()
	c := testConfig(t, func(c *Config) {
		c.Location.URL, c.Table, c.Metastore = dir, "ads.long", Metastore{Address: server.address}
		c.PartitionBy = nil
		for _, name := range []string{"dt", "b", "c", "d"} {
			c.PartitionBy = append(c.PartitionBy, spec.Field{Name: name, Expr: diag.Text{S: "day"}})
		}
	})
	ctx, d := t.Context(), sinks.Deps{Route: "route.r", ID: "r", Type: eventType}
	if err := c.Ensure(ctx, d, []types.Type{eventType}); err != nil {
		t.Fatal(err)
	}
	client, err := metastore.New(server.address, timeout)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // only asked
	made, err := c.New(d)
	if err != nil {
		t.Fatal(err)
	}
	s := made.(*Sink)
	if err := s.Open(ctx); err != nil {
		t.Fatal(err)
	}
	defer s.Close(ctx) //nolint:errcheck // what is durable is what counts
	if _, err := s.Begin(ctx, position(0, 0)); err != nil {
		t.Fatal(err)
	}
	b := &record.Batch{Topic: "plays", Next: position(0, 24)}
	for o := range int64(24) {
		derived := [][]byte{fmt.Appendf(nil, "2026-01-%02d", o), nil, nil, nil}
		if o%12 == 0 {
			for i := range 3 {
				derived[i+1] = []byte(strings.Repeat("x", 250))
			}
		}
		b.Records = append(b.Records, record.Record{Offset: o, Value: event(0, o), Derived: derived, Source: int32(o)})
	}
	mustPut(t, s, b)
	settle(t, s, position(0, 24))
	count := func() (n int) {
		if err := client.EachPartition(ctx, "ads", "long", "", func(metastore.Partition) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	eventually(t, "what can be registered is", func() error {
		if n := count(); n < 22 || !s.catalog.idle() {
			return fmt.Errorf("%d partitions, %w", n, s.Trailing())
		}
		return nil
	})
	if n, err := count(), s.Trailing(); n != 22 || err == nil || !strings.Contains(err.Error(), "refuses 2 partitions") {
		t.Errorf("%d partitions are registered; told: %v", n, err)
	} else {
		t.Log(err)
	}
}
