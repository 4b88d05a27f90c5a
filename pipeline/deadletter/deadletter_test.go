package deadletter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keystone/configs/addr"
	"keystone/pipeline"
	"keystone/pipeline/record"
	"keystone/sinks"
)

func letter(value []byte) pipeline.DeadLetter {
	return pipeline.DeadLetter{
		Record: record.Record{Offset: 7, Timestamp: 1_700_000_000_000, Key: []byte("k"), Value: value,
			Headers: []record.Header{{Key: "trace", Value: []byte("t1")}, {Key: "ks-error-code", Value: []byte("of an earlier time")}}},
		Route: addr.New("route", "tv").Instance("eu"), Topic: "plays", Partition: 3, Identity: "id", Code: "type", Error: "not a number",
		At: "main.ks.hcl:3:10", Attempts: 2, Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("x", 3600)), Revision: 9,
	}
}

func TestEnvelope(t *testing.T) {
	l := letter([]byte("v"))
	got := ""
	for _, h := range Headers(nil, &l) {
		got += h.Key + "=" + string(h.Value) + "\n"
	}
	want := `trace=t1
ks-route=route.tv["eu"]
ks-topic=plays
ks-topic-id=id
ks-partition=3
ks-offset=7
ks-timestamp=1700000000000
ks-error-code=type
ks-error=not a number
ks-error-at=main.ks.hcl:3:10
ks-attempts=2
ks-time=2026-01-02T02:04:05.000000006Z
ks-revision=9
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestErrorTextIsBounded(t *testing.T) {
	l := letter(nil)
	l.Error = "x" + strings.Repeat("é", MaxError) + "\xff"
	for _, h := range Headers(nil, &l) {
		if len(h.Value) > MaxError+len("…") || !bytes.Equal(bytes.ToValidUTF8(h.Value, nil), h.Value) {
			t.Errorf("%s has %d bytes", h.Key, len(h.Value))
		}
	}
}

func read(t *testing.T, path string) (out []Letter) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var l Letter
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatalf("%s: %v", s.Text(), err)
		}
		out = append(out, l)
	}
	return out
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dead-letters", "tv.ndjson")
	f := NewFile(path, 0)
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is there before the first letter")
	}
	values := [][]byte{[]byte(`{"a":"<b>"}`), {0xff, 0x00}, nil, {}}
	for _, v := range values {
		if err := f.Write(t.Context(), []pipeline.DeadLetter{letter(v)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := read(t, path)
	if len(got) != len(values) {
		t.Fatalf("%d lines", len(got))
	}
	for i, v := range values {
		back := got[i].ValueBase64
		if got[i].Value != nil {
			back = []byte(*got[i].Value)
		}
		if !bytes.Equal(back, v) || (v == nil) != (back == nil) {
			t.Errorf("value %d came back as %q, want %q", i, back, v)
		}
	}
	text := func(s string) *string { return &s }
	want := Letter{Route: `route.tv["eu"]`, Topic: "plays", Partition: 3, Offset: 7, Identity: "id", Timestamp: 1_700_000_000_000,
		Key: text("k"), Value: text(`{"a":"<b>"}`), Headers: []LetterHeader{{Key: "trace", Value: text("t1")}, {Key: "ks-error-code", Value: text("of an earlier time")}},
		Code: "type", Error: "not a number", At: "main.ks.hcl:3:10", Attempts: 2, Time: letter(nil).Time.UTC(), Revision: 9}
	if d := cmp.Diff(want, got[0]); d != "" {
		t.Error(d)
	}
}

func TestFileGoesOnAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.ndjson")
	if err := os.WriteFile(path, []byte("{\"half"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewFile(path, 0)
	if err := f.Write(t.Context(), []pipeline.DeadLetter{letter([]byte("v"))}); err != nil {
		t.Fatal(err)
	}
	f.Close(t.Context())
	data, _ := os.ReadFile(path)
	if first, rest, _ := strings.Cut(string(data), "\n"); first != `{"half` || !json.Valid([]byte(rest)) {
		t.Errorf("%q", data)
	}
}

func TestFullFileRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.ndjson")
	f := NewFile(path, 1000)
	defer f.Close(t.Context())
	n := 0
	var err error
	for ; err == nil && n < 100; n++ {
		err = f.Write(t.Context(), []pipeline.DeadLetter{letter([]byte("v"))})
	}
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("after %d letters: %v", n, err)
	}
	if got := read(t, path); len(got) != n-1 || len(got) == 0 {
		t.Errorf("%d lines after %d letters", len(got), n-1)
	}
}

// TestUnwritableFile: the folder cannot be made.
func TestUnwritableFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewFile(filepath.Join(dir, "f", "x.ndjson"), 0) // below a file
	if err := f.Write(t.Context(), []pipeline.DeadLetter{letter(nil)}); err == nil {
		t.Error("no error")
	}
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFileIsWrittenByManyLanes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.ndjson")
	f := NewFile(path, 0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 5 {
				if err := f.Write(t.Context(), []pipeline.DeadLetter{letter(fmt.Append(nil, i)), letter([]byte("w"))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	f.Close(t.Context())
	if n := len(read(t, path)); n != 80 {
		t.Errorf("%d lines, want 80", n)
	}
}

// keep is a sink that keeps what it gets, and fails as it is told.
type keep struct {
	got    []record.Record
	open   error
	answer error
	silent bool // never answers
	opened int
	closed int
}

func (k *keep) Open(context.Context) error { k.opened++; return k.open }
func (k *keep) Write(_ context.Context, b *record.Batch, done func(error)) {
	k.got = append(k.got, b.Records...)
	if !k.silent {
		done(k.answer)
	}
}
func (k *keep) Close(context.Context) error { k.closed++; return nil }

func TestStream(t *testing.T) {
	k := &keep{open: errors.New("no broker")}
	s := NewStream(func() (sinks.Sink, error) { return k, nil })
	value := []byte("v")
	letters := []pipeline.DeadLetter{letter(value), letter(nil)}
	if err := s.Write(t.Context(), letters); !errors.Is(err, k.open) || k.closed != 1 {
		t.Fatalf("%v, closed %d times", err, k.closed)
	}
	k.open = nil
	if err := s.Write(t.Context(), letters); err != nil {
		t.Fatal(err)
	}
	copy(value, "!") // the letters are the caller's again
	if len(k.got) != 2 || string(k.got[0].Value) != "v" || string(k.got[0].Key) != "k" || k.got[1].Value != nil || k.got[0].Timestamp != 1_700_000_000_000 {
		t.Errorf("%+v", k.got)
	}
	k.answer = &sinks.PartialError{Failures: []sinks.Failure{{Index: 0, Outcome: sinks.Applied}}}
	if err := s.Write(t.Context(), letters); err != nil {
		t.Errorf("what is there already is an error: %v", err)
	}
	k.answer = &sinks.PartialError{Failures: []sinks.Failure{{Index: 0, Outcome: sinks.Applied}, {Index: 1, Err: errors.New("busy")}}}
	var partial *sinks.PartialError
	if err := s.Write(t.Context(), letters); !errors.As(err, &partial) || len(partial.Failures) != 1 || partial.Failures[0].Index != 1 {
		t.Errorf("%v", err)
	}
	k.silent = true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(ctx, letters); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := s.Close(t.Context()); err != nil || k.closed != 2 || k.opened != 2 {
		t.Errorf("%v, opened %d and closed %d times", err, k.opened, k.closed)
	}
}

func TestStreamWithoutLettersOpensNothing(t *testing.T) {
	s := NewStream(func() (sinks.Sink, error) { t.Error("made a sink"); return nil, nil })
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Close frees what was opened although its context is over: after a crash of the
// network it mostly is.
func TestCloseAfterItsTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // a choice between two ways would be right half of the time
		sink := &closing{}
		s := NewStream(func() (sinks.Sink, error) { return sink, nil })
		if err := s.Write(t.Context(), []pipeline.DeadLetter{letter([]byte("v"))}); err != nil {
			t.Fatal(err)
		}
		_ = s.Close(ctx)
		if !sink.closed {
			t.Fatal("the sink was not closed")
		}
	}
}

type closing struct{ closed bool }

func (*closing) Open(context.Context) error                                 { return nil }
func (*closing) Write(_ context.Context, _ *record.Batch, done func(error)) { done(nil) }
func (c *closing) Close(context.Context) error                              { c.closed = true; return nil }
