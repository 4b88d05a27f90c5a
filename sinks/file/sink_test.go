package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"keystone/configs/diag"
	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sinks/sinktest"
)

func config(path string) Config {
	return Config{Path: diag.Text{S: path}, Compression: Auto, MaxOpenFiles: 4, Newlines: Space}
}

// make makes a sink that is not opened.
func (c Config) make(d sinks.Deps) *sink {
	if d.Route == "" {
		d.Route = "route.test"
	}
	s, err := c.New(d)
	if err != nil {
		panic(err)
	}
	return s.(*sink)
}

// open opens a sink that goes on at state.
func open(t testing.TB, c Config, d sinks.Deps, state []byte) *sink {
	t.Helper()
	s := c.make(d)
	s.Restore(state)
	if err := s.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// lines makes a batch. A value of the form "path=value" has a derived path.
func lines(values ...string) *record.Batch {
	b := &record.Batch{}
	for _, v := range values {
		r := record.Record{Value: []byte(v)}
		if path, value, ok := strings.Cut(v, "="); ok {
			r.Derived, r.Value = [][]byte{[]byte(path)}, []byte(value)
		}
		b.Records = append(b.Records, r)
	}
	return b
}

func put(s *sink, values ...string) (err error) {
	s.Write(context.Background(), lines(values...), func(e error) { err = e })
	return err
}

func mustPut(t testing.TB, s *sink, values ...string) {
	t.Helper()
	if err := put(s, values...); err != nil {
		t.Fatal(err)
	}
}

func mustSync(t testing.TB, s *sink) []byte {
	t.Helper()
	state, err := s.Sync(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func mustClose(t testing.TB, s *sink) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// crash leaves files as a process leaves them that is killed.
func crash(s *sink) {
	for _, o := range s.outs {
		_ = o.f.Close()
	}
	_ = s.journal.close()
	_ = s.root.Close()
	s.root = nil
}

// content unpacks a file.
func content(t interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r io.Reader = bytes.NewReader(text)
	switch Auto.of(path) {
	case Gzip:
		if len(text) == 0 {
			return ""
		}
		r, err = gzip.NewReader(r)
	case Zstd:
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r); err == nil {
			defer z.Close()
			r = z
		}
	}
	if err == nil {
		text, err = io.ReadAll(r)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return string(text)
}

// tree gives path → content of all files below dir but the journals.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.HasPrefix(e.Name(), hidden) {
			rel, _ := filepath.Rel(dir, path)
			files[rel] = content(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func expect(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	got := tree(t, dir)
	for path, text := range want {
		if have, ok := got[path]; !ok || have != text {
			t.Errorf("%s: got %q, want %q", path, have, text)
		}
		delete(got, path)
	}
	for path, text := range got {
		t.Errorf("%s is there, with %q", path, text)
	}
}

func TestContract(t *testing.T) {
	for _, name := range []string{"out.ndjson", "deep/er/out.ndjson.gz", "out.zst"} {
		for _, once := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s once %v", name, once), func(t *testing.T) {
				sinktest.Run(t, func(t *testing.T) sinktest.Case {
					dir := t.TempDir()
					path := filepath.Join(dir, name)
					deps := sinks.Deps{Dir: dir, OneShot: once}
					c := sinktest.Case{
						New: func() sinks.Sink { return config(name).make(deps) },
						Read: func(t *testing.T) []string {
							return strings.FieldsFunc(content(t, path), func(r rune) bool { return r == '\n' })
						},
						ReadAfterClose: once,
						Unopenable:     func() sinks.Sink { return config(dir).make(deps) },
					}
					if once {
						c.Finish = func(t *testing.T, s sinks.Sink) {
							if err := s.(sinks.Finisher).Finish(t.Context()); err != nil {
								t.Error(err)
							}
						}
					}
					return c
				})
			})
		}
	}
}

func TestPattern(t *testing.T) {
	dir := t.TempDir()
	s := open(t, config("out/{a}/{b}.ndjson"), sinks.Deps{Dir: dir}, nil)
	for i := range 40 { // ten files, four of them open at a time
		mustPut(t, s, fmt.Sprintf("out/a%d/b.ndjson=%d", i%10, i))
	}
	mustSync(t, s)
	mustClose(t, s)
	want := map[string]string{}
	for i := range 40 {
		want[fmt.Sprintf("out/a%d/b.ndjson", i%10)] += fmt.Sprintf("%d\n", i)
	}
	expect(t, dir, want)
}

func TestPathsThatLeadElsewhere(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "out"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "out", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "out", "folder.ndjson"), 0o777); err != nil {
		t.Fatal(err)
	}
	s := open(t, config("out/{a}.ndjson"), sinks.Deps{Dir: dir}, nil)
	for _, path := range []string{
		"out/../x.ndjson", "out/a/../../x.ndjson", "out//x.ndjson", "out/./x.ndjson", "/etc/x.ndjson", "x.ndjson", "out/", "out/..",
		"out/link/x.ndjson", "out/folder.ndjson", "out/a\x00b.ndjson", "out/" + strings.Repeat("n", 300) + ".ndjson", "out/.keystone-x.journal",
	} {
		err := put(s, "out/good.ndjson=1", path+"=2", "out/good.ndjson=3")
		var partial *sinks.PartialError
		if !errors.As(err, &partial) || len(partial.Failures) != 1 || partial.Failures[0].Index != 1 ||
			partial.Failures[0].Outcome != sinks.Rejected || partial.Failures[0].Code != "path" {
			t.Errorf("%q: got %v, want record 1 rejected", path, err)
		}
	}
	if err := put(s, "no derived path"); err == nil {
		t.Error("a record without a path was taken")
	}
	mustSync(t, s)
	got := tree(t, dir)
	if len(got) != 1 || got["out/good.ndjson"] != strings.Repeat("1\n3\n", 13) {
		t.Errorf("got %q", got)
	}
}

func TestRotateBytes(t *testing.T) {
	for _, path := range []string{"p.ndjson", "p.ndjson.gz", "{x}.d/p"} {
		t.Run(path, func(t *testing.T) {
			dir := t.TempDir()
			c := config(path)
			c.RotateBytes = 40
			prefix := ""
			if !parseTarget(path).plain {
				prefix = "x.d/p="
			}
			s := open(t, c, sinks.Deps{Dir: dir}, nil)
			var all string
			for i := range 50 {
				mustPut(t, s, fmt.Sprintf("%s{\"n\":%d}", prefix, i))
				all += fmt.Sprintf("{\"n\":%d}\n", i)
				if i%7 == 0 {
					mustSync(t, s)
				}
			}
			state := mustSync(t, s)
			mustClose(t, s)
			s = open(t, c, sinks.Deps{Dir: dir}, state)
			mustPut(t, s, prefix+strings.Repeat("z", 100))
			all += strings.Repeat("z", 100) + "\n"
			mustSync(t, s)
			files := tree(t, dir)
			var names []string
			for n := range files {
				names = append(names, n)
			}
			slices.Sort(names)
			var text string
			for i, n := range names {
				stem, ext := cutExtension(strings.NewReplacer("{x}", "x").Replace(path))
				if want := fmt.Sprintf("%s.%06d%s", stem, i+1, ext); n != want {
					t.Errorf("file %d is %q, want %q", i, n, want)
				}
				if len(files[n]) > 40 && ext != ".ndjson.gz" && !strings.HasPrefix(files[n], "z") {
					t.Errorf("%s has %d bytes", n, len(files[n]))
				}
				text += files[n]
			}
			if text != all {
				t.Errorf("got %q, want %q", text, all)
			}
			if len(names) < 3 {
				t.Errorf("only %d files", len(names))
			}
		})
	}
}
