package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/sourcetest"
)

// listener keeps what is assigned and revoked.
type listener struct {
	assigned []record.Position
	revoked  []int32
}

func (l *listener) Assigned(p []record.Position)         { l.assigned = append(l.assigned, p...) }
func (l *listener) Revoked(_ context.Context, p []int32) { l.revoked = append(l.revoked, p...) }
func (l *listener) Lost([]int32)                         {}
func (l *listener) DataLoss(part int32, from, to int64)  {}
func (l *listener) partition(path string) (int32, bool) {
	for _, p := range l.assigned {
		if p.Name == path {
			return p.Partition, true
		}
	}
	return 0, false
}

func config(path string) Config {
	return Config{Path: path, Compression: Auto, MaxLineBytes: 1 << 20, MaxFiles: 1000, PollInterval: 5 * time.Millisecond, RotateWait: 5 * time.Millisecond}
}

func open(t testing.TB, c Config, from ...record.Position) (*source, *listener) {
	t.Helper()
	src, err := c.New(sources.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{}
	if err := src.Open(t.Context(), from, l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return src.(*source), l
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// rest reads a bounded source to its end: path → values, partition → where to go on.
func rest(t testing.TB, s *source) (map[string][]string, map[int32]record.Position) {
	t.Helper()
	got, next := map[string][]string{}, map[int32]record.Position{}
	b := &record.Batch{}
	for {
		b.Reset()
		err := s.Read(t.Context(), b)
		if errors.Is(err, io.EOF) {
			return got, next
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Records {
			got[b.Topic] = append(got[b.Topic], string(r.Value))
		}
		if len(b.Records) > 0 {
			next[b.Partition] = b.Next
		}
	}
}

func equal(t testing.TB, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func numbered(from, to int) (text string, values []string) {
	for i := from; i < to; i++ {
		values = append(values, fmt.Sprintf(`{"n":%d}`, i))
	}
	return strings.Join(values, "\n") + "\n", values
}

func pack(t testing.TB, c Compression, frames ...string) string {
	t.Helper()
	var out bytes.Buffer
	for _, f := range frames {
		var w io.WriteCloser = gzip.NewWriter(&out)
		if c == Zstd {
			var err error
			if w, err = zstd.NewWriter(&out); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.WriteString(w, f); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestContract(t *testing.T) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		for _, follow := range []bool{false, true} {
			if follow && c != None {
				continue
			}
			t.Run(fmt.Sprintf("%s follow %v", c, follow), func(t *testing.T) {
				sourcetest.Run(t, func(t *testing.T) sourcetest.Case {
					dir := t.TempDir()
					want := map[int32][]string{}
					for p := range int32(3) {
						text, values := numbered(int(p)*100, int(p)*100+50)
						if c != None {
							half := strings.Index(text, values[25])
							text = pack(t, c, text[:half], "", text[half:])
						}
						write(t, filepath.Join(dir, fmt.Sprintf("%d.log", p)), text)
						want[p] = values
					}
					cfg := config(filepath.Join(dir, "*.log"))
					cfg.Follow, cfg.Compression = follow, c
					make := func(c Config) sources.Source { s, _ := c.New(sources.Deps{}); return s }
					return sourcetest.Case{
						New: func() sources.Source { return make(cfg) }, Want: want, Bounded: !follow, HeedsWant: true,
						Unopenable: func() sources.Source { return make(config(dir)) },
					}
				})
			})
		}
	}
}
