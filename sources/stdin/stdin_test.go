package stdin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/sourcetest"
)

type listener struct{}

func (listener) Assigned([]record.Position)       {}
func (listener) Revoked(context.Context, []int32) {}
func (listener) Lost([]int32)                     {}
func (listener) DataLoss(int32, int64, int64)     {}

func text(n int) (string, []string) {
	var values []string
	for i := range n {
		values = append(values, fmt.Sprintf(`{"n":%d}`, i))
	}
	return strings.Join(values, "\n") + "\n", values
}

// pipe gives a pipe whose writer writes s and closes.
func pipe(t *testing.T, s string) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if len(s) > 32<<10 {
		t.Fatal("more than a pipe holds")
	}
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

func regular(t *testing.T, s string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(path, []byte(s), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestContract(t *testing.T) {
	for name, input := range map[string]func(*testing.T, string) *os.File{"pipe": pipe, "file": regular} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, func(t *testing.T) sourcetest.Case {
				in, values := text(200)
				f := input(t, in)
				closed := regular(t, "")
				if err := closed.Close(); err != nil {
					t.Fatal(err)
				}
				return sourcetest.Case{
					New:     func() sources.Source { return &source{max: 1 << 20, in: f} },
					Want:    map[int32][]string{0: values},
					Bounded: true, Repeats: true, HeedsWant: true,
					Unopenable: func() sources.Source { return &source{max: 1 << 20, in: closed} },
				}
			})
		})
	}
}

func open(t *testing.T, in *os.File) *source {
	t.Helper()
	s := &source{max: 1 << 20, in: in}
	if err := s.Open(t.Context(), nil, listener{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// TestSlowInput passes a line on as soon as it is there.
func TestSlowInput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only a test
	s, b := open(t, r), &record.Batch{Want: record.Want{Linger: time.Hour}}
	for i := range 3 {
		line := fmt.Sprint("line ", i)
		if _, err := fmt.Fprintf(w, "%s\npart", line); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		if err := s.Read(t.Context(), b); err != nil || len(b.Records) != 1 {
			t.Fatalf("%d records, %v", len(b.Records), err)
		}
		want := line
		if i > 0 {
			want = "part" + line
		}
		if string(b.Records[0].Value) != want {
			t.Errorf("got %q, want %q", b.Records[0].Value, want)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	if err := s.Read(t.Context(), b); err != nil || string(b.Records[0].Value) != "part" {
		t.Errorf("%v", err)
	}
	b.Reset()
	if err := s.Read(t.Context(), b); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
}

// TestReadEndsWithContext interrupts a read of an input that says nothing.
func TestReadEndsWithContext(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only a test
	defer w.Close() //nolint:errcheck // only a test
	s := open(t, r)
	for _, pause := range []bool{false, true} {
		if pause {
			s.Pause([]int32{0})
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if err := s.Read(ctx, &record.Batch{Want: record.Want{Linger: time.Hour}}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

// TestPauseLeavesTheInput resumes a read that waits.
func TestPauseLeavesTheInput(t *testing.T) {
	s, b := open(t, pipe(t, "a\n")), &record.Batch{Want: record.Want{Linger: time.Millisecond}}
	s.Pause([]int32{0})
	if err := s.Read(t.Context(), b); err != nil || len(b.Records) != 0 {
		t.Fatalf("%d records of a paused input, %v", len(b.Records), err)
	}
	b.Want.Linger = time.Hour
	time.AfterFunc(10*time.Millisecond, func() { s.Resume([]int32{0}) })
	if err := s.Read(t.Context(), b); err != nil || len(b.Records) != 1 {
		t.Fatalf("%d records, %v", len(b.Records), err)
	}
}

func TestDirectory(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only a test
	s := &source{max: 1 << 20, in: f}
	if err := s.Open(t.Context(), nil, listener{}); !sources.IsFatal(err) || !strings.Contains(err.Error(), "directory") {
		t.Errorf("got %v", err)
	}
}
