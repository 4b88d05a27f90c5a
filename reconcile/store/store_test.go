package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/pipeline/record"
	"keystone/reconcile"
)

func openTest(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: dir, Env: "default"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestRevisionsSurviveReopening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b#?%", "default")
	s, err := Open(t.Context(), Options{Dir: dir, Env: "default"})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1700000000, 5).UTC()
	want := reconcile.Revision{Time: at, Who: "ada", Why: "first", Goal: []byte(`{"resources":[]}`), Sources: []reconcile.SourceFile{{Name: "main.ks.hcl", SHA256: "ab", Bytes: 3}},
		Allow: []addr.Addr{addr.New("stream", "s").Instance("a b")}}
	want, err = s.Commit(t.Context(), want, 0)
	if err != nil || want.Serial != 1 {
		t.Fatalf("Commit = %+v, %v", want, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !Exists(dir) {
		t.Fatal("the file is not where it should be")
	}
	got, err := openTest(t, dir).Current(t.Context())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("Current = %+v, %v, want %+v", got, err, want)
	}
}

func TestCommitRefusesStaleSerials(t *testing.T) {
	s := openTest(t, t.TempDir())
	if _, err := s.Commit(t.Context(), reconcile.Revision{Goal: []byte("a")}, 0); err != nil {
		t.Fatal(err)
	}
	got, err := s.Commit(t.Context(), reconcile.Revision{Goal: []byte("b")}, 0)
	var stale *reconcile.StaleError
	if !errors.As(err, &stale) || stale.Planned != 0 || stale.Stored != 1 || got.Serial != 0 {
		t.Fatalf("Commit = %+v, %v", got, err)
	}
	if r, err := s.Current(t.Context()); err != nil || string(r.Goal) != "a" {
		t.Fatalf("Current = %+v, %v", r, err)
	}
	var other *reconcile.OtherGoalError
	if _, err := s.Commit(t.Context(), reconcile.Revision{Env: "prod"}, 1); !errors.As(err, &other) {
		t.Fatalf("a revision of another environment: %v", err)
	}
	if _, err := s.Commit(t.Context(), reconcile.Revision{Namespace: "other"}, 1); !errors.As(err, &other) {
		t.Fatalf("a revision of another namespace: %v", err)
	}
}

func TestOneOfManyCommitsWins(t *testing.T) {
	dir := t.TempDir()
	stores := []*Store{openTest(t, dir), openTest(t, dir)} // as two processes would
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = stores[i%2].Commit(context.Background(), reconcile.Revision{Who: fmt.Sprint(i)}, 0)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		var stale *reconcile.StaleError
		switch {
		case err == nil:
			won++
		case !errors.As(err, &stale):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d commits of the same serial won", won)
	}
}

func TestNamespacesDoNotSeeEachOther(t *testing.T) {
	dir := t.TempDir()
	a := openTest(t, dir)
	if _, err := a.Commit(t.Context(), reconcile.Revision{Goal: []byte("a")}, 0); err != nil {
		t.Fatal(err)
	}
	route := addr.New("route", "r")
	if err := a.Positions("s", "k").SavePositions(t.Context(), route, []record.Position{{Offset: 1}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := a.SaveApplied(t.Context(), []reconcile.Applied{{Addr: route}}, nil); err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), Options{Dir: dir, Env: "default", Namespace: "ads"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r, err := b.Commit(t.Context(), reconcile.Revision{Goal: []byte("b")}, 0)
	if err != nil || r.Serial != 2 || r.Namespace != "ads" {
		t.Fatalf("Commit = %+v, %v", r, err)
	}
	if from, _, err := b.Positions("s", "k").LoadPositions(t.Context(), route); err != nil || len(from) != 0 {
		t.Fatalf("positions of another namespace: %v, %v", from, err)
	}
	if rows, err := b.LoadApplied(t.Context()); err != nil || len(rows) != 0 {
		t.Fatalf("applied in another namespace: %v, %v", rows, err)
	}
	if err := b.SaveApplied(t.Context(), nil, []addr.Addr{route}); err != nil {
		t.Fatal(err)
	}
	if rows, err := a.LoadApplied(t.Context()); err != nil || len(rows) != 1 {
		t.Fatalf("another namespace removed it: %v, %v", rows, err)
	}
	if cur, err := a.Current(t.Context()); err != nil || cur.Serial != 1 {
		t.Fatalf("Current = %+v, %v", cur, err)
	}
}

func TestOpenRefusesOtherEnvironmentsAndNewerFormats(t *testing.T) {
	dir := t.TempDir()
	openTest(t, dir)
	var other *reconcile.OtherGoalError
	if _, err := Open(t.Context(), Options{Dir: dir, Env: "prod"}); !errors.As(err, &other) {
		t.Fatalf("another environment: %v", err)
	}
	db, err := sql.Open("sqlite", dsn(filepath.Join(dir, File)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`PRAGMA user_version = 99`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var newer *NewerFormatError
	if _, err := Open(t.Context(), Options{Dir: dir, Env: "default"}); !errors.As(err, &newer) || newer.Format != 99 {
		t.Fatalf("a newer format: %v", err)
	}
}

func TestOpenOfWhatIsNoDatabase(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, File), bytes.Repeat([]byte("not a database\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: dir, Env: "default"}); err == nil || !strings.Contains(err.Error(), File) {
		t.Fatalf("Open = %v", err)
	}
	if _, err := Open(t.Context(), Options{Dir: filepath.Join(dir, File, "x"), Env: "default"}); err == nil {
		t.Fatal("a file was taken for a directory")
	}
}

func TestPositions(t *testing.T) {
	s := openTest(t, t.TempDir())
	p := s.Positions("source.a/file", "sink.b/file")
	route := addr.New("route", "r").Instance(`eu "west"`)
	if from, state, err := p.LoadPositions(t.Context(), route); err != nil || from != nil || state != nil {
		t.Fatalf("nothing saved: %v, %v, %v", from, state, err)
	}
	save := func(p *Positions, from []record.Position, state string) {
		t.Helper()
		if err := p.SavePositions(t.Context(), route, from, []byte(state)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(p *Positions, want []record.Position, state string) {
		t.Helper()
		from, got, err := p.LoadPositions(t.Context(), route)
		if err != nil || !reflect.DeepEqual(from, want) || string(got) != state {
			t.Fatalf("LoadPositions = %+v, %q, %v, want %+v, %q", from, got, err, want, state)
		}
	}
	save(p, []record.Position{{Partition: 1, Offset: 10, LeaderEpoch: -1, Identity: "i", Name: "n"}, {Partition: 0, Offset: 1 << 62}}, "one")
	save(p, []record.Position{{Partition: 1, Offset: 11, Identity: "j", Cluster: "c"}}, "two")
	want := []record.Position{{Partition: 0, Offset: 1 << 62}, {Partition: 1, Offset: 11, Identity: "j", Cluster: "c"}}
	check(p, want, "two")

	other := s.Positions("source.c/file", "sink.b/file")
	check(other, nil, "")
	save(other, []record.Position{{Offset: 5}}, "three")
	check(p, want, "two")
	check(s.Positions("source.a/file", "sink.b/hive"), want, "")

	to := addr.New("route", "renamed")
	for range 2 { // the second time finds nothing to move
		if err := s.MovePositions(t.Context(), route, to); err != nil {
			t.Fatal(err)
		}
	}
	check(p, nil, "")
	route = to
	check(p, want, "two")
	if n, err := s.CountPositions(t.Context()); err != nil || n[to] != 3 || len(n) != 1 {
		t.Fatalf("CountPositions = %v, %v", n, err)
	}
	if err := s.DropPositions(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	check(p, nil, "")
}

func TestWritesOfManyRoutesAreAllDurable(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Dir: dir, Env: "default"})
	if err != nil {
		t.Fatal(err)
	}
	p := s.Positions("s", "k")
	var wg sync.WaitGroup
	const routes, saves = 50, 20
	for i := range routes {
		wg.Go(func() {
			for n := range int64(saves) {
				if err := p.SavePositions(context.Background(), addr.New("route", fmt.Sprintf("r%d", i)), []record.Position{{Offset: n + 1}}, []byte{byte(n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p = openTest(t, dir).Positions("s", "k")
	for i := range routes {
		from, state, err := p.LoadPositions(t.Context(), addr.New("route", fmt.Sprintf("r%d", i)))
		if err != nil || len(from) != 1 || from[0].Offset != saves || state[0] != saves-1 {
			t.Fatalf("r%d: %v, %v, %v", i, from, state, err)
		}
	}
}

func TestAFailingWriteSpoilsNoOther(t *testing.T) {
	s := openTest(t, t.TempDir())
	boom := errors.New("boom")
	insert := func(key string) func(context.Context, *sql.Tx) error {
		return func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO meta (key, value) VALUES (?, '')`, key)
			if key == "bad" && err == nil {
				err = boom
			}
			return err
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	batch := []*write{}
	for _, key := range []string{"one", "bad", "two", "one", "late"} {
		w := &write{ctx: t.Context(), do: insert(key)}
		if key == "late" {
			w.ctx = cancelled
		}
		batch = append(batch, w)
	}
	if err := s.together(batch); err != nil {
		t.Fatal(err)
	}
	if batch[0].err != nil || !errors.Is(batch[1].err, boom) || batch[2].err != nil || batch[3].err == nil || !errors.Is(batch[4].err, context.Canceled) {
		t.Fatalf("errors: %v %v %v %v %v", batch[0].err, batch[1].err, batch[2].err, batch[3].err, batch[4].err)
	}
	var n int
	if err := s.db.QueryRow(`SELECT COUNT(*) FROM meta WHERE key IN ('one', 'bad', 'two', 'late')`).Scan(&n); err != nil || n != 2 {
		t.Fatalf("%d rows, %v", n, err)
	}
}

func TestAppliedRoundTrip(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	sink := &configs.Resource{Addr: addr.New("sink", "s"), Kind: "file", Decl: diag.Range{File: "a.ks.hcl"},
		Body: spec.Body{Attrs: map[string]spec.Attr{
			"path":  {Value: "out"},
			"token": {Value: spec.Secret{Parts: []spec.SecretPart{{Literal: "hunter2"}}}},
			"plain": {Value: "hunter2"},
			"key":   {Value: spec.Secret{Parts: []spec.SecretPart{{Literal: "ApiKey "}, {Env: "K"}}}},
		}, Blocks: map[string]spec.Body{"auth": {Attrs: map[string]spec.Attr{"password": {Value: "hunter2"}}}}},
		Options: map[string]configs.Option{"path": {Canonical: `"out"`, Effect: spec.Drain, Layer: spec.LayerBlock}, "batch": {Canonical: "1", Layer: spec.LayerDefault},
			"token": {Canonical: "(literal ab)", Sensitive: true}, "plain": {Canonical: "(literal cd)", Sensitive: true}, "auth.password": {Canonical: "(literal ef)", Sensitive: true}}}
	route := addr.New("route", "r")
	row := reconcile.Applied{Addr: route, Resource: &configs.Resource{Addr: route}, Interrupted: &configs.Resource{Addr: route, Kind: "k"},
		Deps: map[addr.Addr]*configs.Resource{sink.Addr: sink}, Kept: reconcile.Identity{Group: "g"}, Group: "g", Serial: 7, At: time.Unix(9, 0).UTC()}
	if err := s.SaveApplied(t.Context(), []reconcile.Applied{row, {Addr: sink.Addr, Resource: sink, At: time.Unix(9, 0).UTC()}}, nil); err != nil {
		t.Fatal(err)
	}
	rows, err := s.LoadApplied(t.Context())
	if err != nil || len(rows) != 2 {
		t.Fatalf("LoadApplied = %v, %v", rows, err)
	}
	var got, gotSink reconcile.Applied
	for _, r := range rows {
		if r.Addr == route {
			got = r
		} else {
			gotSink = r
		}
	}
	if got.Deps[sink.Addr] != gotSink.Resource {
		t.Error("a resource that is referred to twice is in memory twice")
	}
	if !reflect.DeepEqual(gotSink.Resource.Options, sink.Options) {
		t.Errorf("options = %v", gotSink.Resource.Options)
	}
	if v := gotSink.Resource.Body.Attrs["path"].Value; v != "out" {
		t.Errorf("path = %v", v)
	}
	if v, _ := gotSink.Resource.Body.Attrs["key"].Value.(spec.Secret); len(v.Parts) != 2 || v.Parts[1].Env != "K" {
		t.Errorf("key = %#v", v.Parts)
	}
	got.Deps, row.Deps = nil, nil
	if !reflect.DeepEqual(got, row) {
		t.Errorf("row = %+v, want %+v", got, row)
	}

	if err := s.SaveApplied(t.Context(), nil, []addr.Addr{route}); err != nil {
		t.Fatal(err)
	}
	if err := s.CompactApplied(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := s.db.QueryRow(`SELECT COUNT(*) FROM resources`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d resources left, %v", n, err)
	}
	noSecrets(t, dir)
}

// noSecrets reads every file of the state for the value that must not be in it.
func noSecrets(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("hunter2")) {
			t.Errorf("%s holds a secret", e.Name())
		}
	}
}

func TestOldGoalsAreDropped(t *testing.T) {
	s := openTest(t, t.TempDir())
	for i := range int64(keepGoals + 3) {
		if _, err := s.Commit(t.Context(), reconcile.Revision{Goal: []byte(fmt.Sprint(i))}, i); err != nil {
			t.Fatal(err)
		}
	}
	rs, err := s.Revisions(t.Context(), 1000)
	if err != nil || len(rs) != keepGoals+3 || rs[0].Serial != keepGoals+3 {
		t.Fatalf("%d revisions, %v", len(rs), err)
	}
	for _, serial := range []int64{3, 4} {
		r, ok, err := s.Revision(t.Context(), serial)
		if err != nil || !ok || (r.Goal == nil) != (serial == 3) {
			t.Errorf("revision %d: %+v, %v, %v", serial, r, ok, err)
		}
	}
	if _, ok, err := s.Revision(t.Context(), 1000); ok || err != nil {
		t.Errorf("a revision that is not there: %v, %v", ok, err)
	}
	log, err := s.AuditLog(t.Context(), 1)
	if err != nil || len(log) != 1 || log[0].Action != "commit" || log[0].Serial != keepGoals+3 {
		t.Errorf("AuditLog = %+v, %v", log, err)
	}
}

func TestOnlyOneServes(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	at := time.Unix(1700000000, 0)
	first, err := s.Acquire(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	var held *reconcile.HeldError
	if _, err := openTest(t, dir).Acquire(t.Context(), at); !errors.As(err, &held) || held.PID != os.Getpid() || !held.Since.Equal(at) {
		t.Fatalf("a second serve: %v", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := s.Acquire(t.Context(), at)
	if err != nil || second.Token <= first.Token {
		t.Fatalf("after the first one ended: %+v, %v", second, err)
	}
	if err := second.Release(); err != nil {
		t.Fatal(err)
	}
}
