package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keystone/pipeline/record"
	"keystone/sources"
)

func TestBounded(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "b.ndjson"), "3\r\n\n4")
	write(t, filepath.Join(dir, "a.ndjson"), "\xef\xbb\xbf1\n2\n")
	write(t, filepath.Join(dir, "c.ndjson.gz"), pack(t, Gzip, "5\n6", "7\n8"))
	write(t, filepath.Join(dir, "d.ndjson.zst"), pack(t, Zstd, "9\n", "", "10\n"))
	write(t, filepath.Join(dir, "e.ndjson"), "")
	write(t, filepath.Join(dir, "f.ndjson.gz"), "")
	write(t, filepath.Join(dir, "g.ndjson", "inner"), "x")
	s, l := open(t, config(filepath.Join(dir, "*.ndjson*")))
	got, _ := rest(t, s)
	var all []string
	for i, name := range []string{"a.ndjson", "b.ndjson", "c.ndjson.gz", "d.ndjson.zst", "e.ndjson", "f.ndjson.gz"} {
		path := filepath.Join(dir, name)
		if part, ok := l.partition(path); !ok || part != int32(i) {
			t.Errorf("%s is partition %d", name, part)
		}
		all = append(all, got[path]...)
	}
	equal(t, all, "1", "2", "3", "4", "5", "67", "8", "9", "10")
}

// TestResumeAtEveryOffset holds that wherever a line begins, reading goes on there, in
// plain and packed files, and after the file was renamed.
func TestResumeAtEveryOffset(t *testing.T) {
	text := "{\"n\":1}\r\n\n{\"n\":2}\n{\"n\":\"ä\"}\n\n\nlast"
	for _, c := range []Compression{None, Gzip, Zstd} {
		for _, rename := range []bool{false, true} {
			dir := t.TempDir()
			path := filepath.Join(dir, "in")
			if c == None {
				write(t, path, text)
			} else {
				write(t, path, pack(t, c, text[:12], text[12:]))
			}
			cfg := config(path)
			cfg.Compression = c
			cfg.MaxFiles = 1
			s, _ := open(t, cfg)
			var stops []record.Position
			var values []string
			b := &record.Batch{Want: record.Want{Records: 1}}
			for {
				b.Reset()
				if err := s.Read(t.Context(), b); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				stops = append(stops, b.Next)
				values = append(values, string(b.Records[0].Value))
			}
			if len(values) != 4 || stops[3].Offset != int64(len(text)) {
				t.Fatalf("got %q, up to %d of %d", values, stops[len(stops)-1].Offset, len(text))
			}
			if rename {
				if err := os.Rename(path, filepath.Join(dir, "renamed")); err != nil {
					t.Fatal(err)
				}
				cfg.Path = filepath.Join(dir, "ren*") // and, by its node, what the position is of
			}
			for i, at := range stops {
				s, l := open(t, cfg, at)
				if len(l.assigned) != 1 || l.assigned[0].Offset != at.Offset || l.assigned[0].Identity != at.Identity {
					t.Fatalf("%s: resumed at %+v, want %+v", c, l.assigned, at)
				}
				got, _ := rest(t, s)
				var rest []string
				for _, v := range got {
					rest = v
				}
				equal(t, rest, values[i+1:]...)
			}
		}
	}
}

// TestResumeProperty reads files in pieces, with a restart between any two
// reads, while complete lines are added.
func TestResumeProperty(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "in.ndjson")
		var want, got []string
		var from []record.Position
		for range rapid.IntRange(1, 8).Draw(t, "restarts") {
			text := ""
			for range rapid.IntRange(0, 5).Draw(t, "lines") {
				v := fmt.Sprintf("%d%s", len(want), strings.Repeat("x", rapid.IntRange(0, 400).Draw(t, "length")))
				want = append(want, v)
				text += v + rapid.SampledFrom([]string{"\n", "\r\n", "\n\n"}).Draw(t, "end")
			}
			f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(text); err != nil {
				t.Fatal(err)
			}
			f.Close() //nolint:errcheck // only a test
			if rapid.Bool().Draw(t, "rename") {
				to := filepath.Join(dir, fmt.Sprintf("in%d.ndjson", len(want)))
				if err := os.Rename(path, to); err != nil {
					t.Fatal(err)
				}
				path = to
			}
			c := config(filepath.Join(dir, "*.ndjson"))
			src, _ := c.New(sources.Deps{})
			l := &listener{}
			if err := src.Open(t.Context(), from, l); err != nil {
				t.Fatal(err)
			}
			if len(from) > 0 && l.assigned[0].Partition != 0 {
				t.Fatalf("it was partition 0 and is %d", l.assigned[0].Partition)
			}
			b := &record.Batch{Want: record.Want{Records: rapid.IntRange(1, 3).Draw(t, "want")}}
			for range rapid.IntRange(0, 4).Draw(t, "reads") {
				b.Reset()
				if err := src.Read(t.Context(), b); err != nil {
					break
				}
				for _, r := range b.Records {
					got = append(got, string(r.Value))
				}
				from = []record.Position{b.Next}
			}
			if err := src.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(got) > len(want) {
			t.Fatalf("got %d records of %d", len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("record %d is %q, want %q", i, got[i], want[i])
			}
		}
	})
}

// TestResumeAfterUnfinishedLine goes on behind a last line that had no line
// feed, also when it has one now; a line that was continued is another file.
func TestResumeAfterUnfinishedLine(t *testing.T) {
	for _, c := range []Compression{None, Gzip} {
		for _, x := range []struct {
			added string
			want  []string
		}{
			{"", nil},
			{"\nb\n", []string{"b"}},
			{"\r\nb", []string{"b"}},
			{"a\nb\n", []string{"aa", "b"}},
		} {
			path := filepath.Join(t.TempDir(), "in")
			frames := []string{"a"}
			text := "a"
			if c == Gzip {
				text = pack(t, c, frames...)
			}
			write(t, path, text)
			cfg := config(path)
			cfg.Compression = c
			s, _ := open(t, cfg)
			_, next := rest(t, s)
			if c == Gzip {
				add(t, path, pack(t, c, x.added))
			} else {
				add(t, path, x.added)
			}
			s, _ = open(t, cfg, next[0])
			got, _ := rest(t, s)
			equal(t, got[path], x.want...)
		}
	}
}

func TestCopyIsContinued(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "in.ndjson")
	text, values := numbered(0, 100)
	write(t, path, text)
	s, _ := open(t, config(path))
	_, next := rest(t, s)
	more, added := numbered(100, 110)
	write(t, path+".copy", text+more) // as a restored backup: another inode, the same name
	if err := os.Rename(path+".copy", path); err != nil {
		t.Fatal(err)
	}
	s, l := open(t, config(path), next[0])
	got, _ := rest(t, s)
	equal(t, got[path], added...)
	if l.assigned[0].Partition != 0 || len(values) != 100 {
		t.Error("it is another partition")
	}
}

func TestFatalErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "plays.ndjson"), "x\n")
	write(t, filepath.Join(dir, "torn.gz"), pack(t, Gzip, strings.Repeat("line\n", 10_000))[:60])
	write(t, filepath.Join(dir, "fake.gz"), "this is no gzip file")
	write(t, filepath.Join(dir, "torn.zst"), pack(t, Zstd, strings.Repeat("line 1 2 3\n", 10_000))[:25])
	write(t, filepath.Join(dir, "fake.zst"), "this is no zstd file")
	for _, c := range []struct{ path, want string }{
		{"play.ndjson", `there is no file ` + filepath.Join(dir, "play.ndjson") + `. Did you mean "plays.ndjson"?`},
		{"nowhere/x.ndjson", "there is no folder"},
		{"*.csv", "no file matches"},
		{"nowhere/*.csv", "there is no folder"},
		{".", "it is a directory"},
		{"plays.ndjson/x", "is a file, not a folder"},
		{"/dev/null", "is not a regular file"},
		{"torn.gz", "damaged"}, {"fake.gz", "damaged"}, {"torn.zst", "damaged"}, {"fake.zst", "damaged"},
	} {
		path := c.path
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		cfg := config(path)
		src, _ := cfg.New(sources.Deps{})
		err := src.Open(t.Context(), nil, &listener{})
		b := &record.Batch{}
		for err == nil {
			b.Reset()
			err = src.Read(t.Context(), b)
		}
		if !sources.IsFatal(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.path, err, c.want)
		}
		if err := src.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestDamageComesAfterWhatIsWhole gives the lines before a damaged place first.
func TestDamageComesAfterWhatIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.gz")
	write(t, path, pack(t, Gzip, "1\n2\n")+"garbage")
	s, _ := open(t, config(path))
	b := &record.Batch{}
	n := 0
	for {
		b.Reset()
		err := s.Read(t.Context(), b)
		n += len(b.Records)
		if err != nil {
			if !sources.IsFatal(err) || errors.Is(err, io.EOF) || n != 2 {
				t.Errorf("%d records, then %v", n, err)
			}
			return
		}
	}
}

func TestLongLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in")
	write(t, path, "a\n"+strings.Repeat("x", 100<<20)+"\nb\n")
	s, _ := open(t, config(path))
	b := &record.Batch{}
	var got []string
	for {
		b.Reset()
		if err := s.Read(t.Context(), b); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Records {
			v := string(r.Value)
			if r.Bad != record.Whole {
				v = r.Bad.String()
			}
			got = append(got, v)
		}
		if cap(b.Buf) > 8<<20 {
			t.Fatalf("%d bytes are held", cap(b.Buf))
		}
	}
	equal(t, got, "a", "too_large", "b")
}

func TestHardLinksAreReadOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.log"), "1\n")
	if err := os.Link(filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a.log", filepath.Join(dir, "c.log")); err != nil {
		t.Fatal(err)
	}
	s, l := open(t, config(filepath.Join(dir, "*.log")))
	got, _ := rest(t, s)
	if len(got) != 1 || len(l.assigned) != 1 {
		t.Errorf("got %q of %d partitions", got, len(l.assigned))
	}
}

func TestMaxFiles(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		write(t, filepath.Join(dir, fmt.Sprint(i)), "x\n")
	}
	c := config(filepath.Join(dir, "*"))
	c.MaxFiles = 2
	src, _ := c.New(sources.Deps{})
	if err := src.Open(t.Context(), nil, &listener{}); !sources.IsFatal(err) || !strings.Contains(err.Error(), "max_files") {
		t.Errorf("got %v", err)
	}
}

func TestNewFilesGetNewPartitions(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "m"), "1\n")
	c := config(filepath.Join(dir, "*"))
	s, _ := open(t, c)
	_, next := rest(t, s)
	write(t, filepath.Join(dir, "a"), "2\n") // sorts before
	s, l := open(t, c, next[0])
	got, _ := rest(t, s)
	if part, _ := l.partition(filepath.Join(dir, "a")); part != 1 || len(got) != 1 {
		t.Errorf("the new file is partition %d; got %q", part, got)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		code string
	}{
		{Config{}, codeEmpty},
		{Config{Path: "a[b"}, codePattern},
		{Config{Path: "a/**/b"}, codePattern},
		{Config{Path: "a.gz", Follow: true, Compression: Auto}, codeFollowGzip},
		{Config{Path: "a", Follow: true, Compression: Zstd}, codeFollowGzip},
	} {
		if ds := c.cfg.Check(); len(ds) != 1 || ds[0].Code != c.code {
			t.Errorf("%+v: got %v, want %s", c.cfg, ds, c.code)
		}
	}
	ok := config("a/*.ndjson")
	if ds := ok.Check(); len(ds) > 0 {
		t.Errorf("got %v", ds)
	}
}

func TestReadAllocatesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in")
	line := strings.Repeat("x", 400) + "\n"
	write(t, path, strings.Repeat(line, 100_000))
	s, _ := open(t, config(path))
	b := &record.Batch{}
	run := func() {
		b.Reset()
		if err := s.Read(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		run()
	}
	if n := testing.AllocsPerRun(20, run); n != 0 {
		t.Errorf("allocs per batch of %d = %v, want 0", len(b.Records), n)
	}
}

func BenchmarkRead(b *testing.B) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		b.Run(string(c), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "in")
			text := strings.Repeat(strings.Repeat("x", 400)+"\n", 200_000)
			if c != None {
				text = pack(b, c, text)
			}
			write(b, path, text)
			cfg := config(path)
			cfg.Compression = c
			n := 0
			batch := &record.Batch{}
			for b.Loop() {
				src, _ := cfg.New(sources.Deps{})
				if err := src.Open(b.Context(), nil, &listener{}); err != nil {
					b.Fatal(err)
				}
				for {
					batch.Reset()
					if err := src.Read(b.Context(), batch); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						b.Fatal(err)
					}
					n += len(batch.Records)
				}
				if err := src.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/line")
		})
	}
}
