package lines

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"keystone/pipeline/record"
)

type got struct {
	offset int64
	value  string
	bad    record.Defect
}

// drain reads everything, poisoning each batch after it was copied.
func drain(t interface{ Fatalf(string, ...any) }, s *Splitter, r io.Reader, end End, want ...record.Want) []got {
	var out []got
	b := &record.Batch{}
	for _, w := range want {
		b.Want = w
	}
	for {
		b.Reset()
		err := s.Fill(b, r, end)
		if b.Want.Records > 0 && len(b.Records) > b.Want.Records {
			t.Fatalf("%d records, %d wanted", len(b.Records), b.Want.Records)
		}
		for _, r := range b.Records {
			out = append(out, got{r.Offset, string(r.Value), r.Bad})
		}
		for i := range b.Buf {
			b.Buf[i] = 0xA5
		}
		if errors.Is(err, io.EOF) {
			if len(b.Records) > 0 {
				t.Fatalf("records together with io.EOF")
			}
			return out
		}
		if err != nil {
			t.Fatalf("Fill: %v", err)
		}
	}
}

// oracle splits the plain way.
func oracle(text string, max int, end End) []got {
	var out []got
	at := 0
	for at < len(text) {
		i := strings.IndexByte(text[at:], '\n')
		next := at + i + 1
		var line string
		if i < 0 {
			if end == MoreMayCome {
				break
			}
			line, next = text[at:], len(text)
		} else {
			line = text[at : at+i]
		}
		line = strings.TrimSuffix(line, "\r")
		if at == 0 {
			line = strings.TrimPrefix(line, byteOrderMk)
		}
		switch {
		case len(line) > max:
			out = append(out, got{int64(at), "", record.TooLarge})
		case line != "":
			out = append(out, got{int64(at), line, record.Whole})
		}
		at = next
	}
	return out
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		in   string
		end  End
		want []got
	}{
		{"", Final, nil},
		{"\n\r\n\n", Final, nil},
		{"a\nb\n", Final, []got{{0, "a", 0}, {2, "b", 0}}},
		{"a\r\n\nb", Final, []got{{0, "a", 0}, {4, "b", 0}}},
		{"a\r\n\nb", MoreMayCome, []got{{0, "a", 0}}},
		{byteOrderMk + "a\n" + byteOrderMk + "b\n", Final, []got{{0, "a", 0}, {5, byteOrderMk + "b", 0}}},
		{"a\n\r", Final, []got{{0, "a", 0}}},
	} {
		got := drain(t, New(1<<20, 0), strings.NewReader(c.in), c.end)
		if len(got) != len(c.want) {
			t.Errorf("%q: got %v, want %v", c.in, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%q: record %d is %v, want %v", c.in, i, got[i], c.want[i])
			}
		}
	}
}

// TestSplitAsOracle holds that where blocks end changes nothing.
func TestSplitAsOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{"a", "bc", "\n", "\r\n", "\r", strings.Repeat("x", 40), strings.Repeat("y", 3000), byteOrderMk, "\n\n"})
		text := strings.Join(rapid.SliceOfN(piece, 0, 60).Draw(t, "pieces"), "")
		max := rapid.SampledFrom([]int{1, 7, 64, 1 << 20}).Draw(t, "max")
		end := End(rapid.Bool().Draw(t, "final"))
		s := New(int64(max), 0)
		s.block = rapid.SampledFrom([]int{1, 2, 3, 17, 64, 4096}).Draw(t, "block")
		var r io.Reader = strings.NewReader(text)
		if rapid.Bool().Draw(t, "one byte") {
			r = iotest.OneByteReader(r)
		}
		want, have := oracle(text, max, end), drain(t, s, r, end, record.Want{
			Records: rapid.SampledFrom([]int{0, 1, 2, 10}).Draw(t, "records"),
		})
		if len(want) != len(have) {
			t.Fatalf("%q: got %v, want %v", text, have, want)
		}
		for i := range want {
			w, h := want[i], have[i]
			if w.bad == record.TooLarge {
				if h.offset != w.offset || h.bad != w.bad || !strings.Contains(text, h.value) {
					t.Fatalf("record %d: got %v, want a long line at %d", i, h, w.offset)
				}
			} else if w != h {
				t.Fatalf("record %d: got %v, want %v", i, h, w)
			}
		}
	})
}

func TestManyShortLines(t *testing.T) {
	n := recordsMax*3 + 5
	got := drain(t, New(100, 0), strings.NewReader(strings.Repeat("{}\n", n)), Final)
	if len(got) != n {
		t.Fatalf("%d records, want %d", len(got), n)
	}
	for i, g := range got {
		if g.offset != int64(i*3) || g.value != "{}" {
			t.Fatalf("record %d: %v", i, g)
		}
	}
}

// endless is a line without an end.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	e.n += len(p)
	return copy(p, bytes.Repeat([]byte{'x'}, len(p))), nil
}

func TestEndlessLineIsBounded(t *testing.T) {
	s, r, b := New(1<<20, 0), &endless{}, &record.Batch{}
	for range 20 {
		b.Reset()
		if err := s.Fill(b, r, Final); err != nil || len(b.Records) != 0 {
			t.Fatalf("%d records, %v", len(b.Records), err)
		}
		if cap(b.Buf) > 4<<20 || cap(s.tail) > 4<<20 {
			t.Fatalf("%d bytes are held", cap(b.Buf)+cap(s.tail))
		}
	}
	if r.n < 64<<20 {
		t.Fatalf("only %d bytes were read", r.n)
	}
	if s.Offset() != 0 || s.ReadTo() != int64(r.n) {
		t.Errorf("offset %d, read to %d of %d", s.Offset(), s.ReadTo(), r.n)
	}
}

func TestHugeLineBetweenOthers(t *testing.T) {
	text := "{\"a\":1}\n" + strings.Repeat("z", 100<<20) + "\n{\"b\":2}\n"
	got := drain(t, New(16<<20, 0), strings.NewReader(text), Final)
	if len(got) != 3 || got[0].value != `{"a":1}` || got[2].value != `{"b":2}` || got[2].offset != int64(len(text)-8) {
		t.Fatalf("got %d records", len(got))
	}
	if got[1].bad != record.TooLarge || got[1].offset != 8 || len(got[1].value) != sampleMax {
		t.Errorf("the long line: offset %d, bad %v, %d bytes kept", got[1].offset, got[1].bad, len(got[1].value))
	}
}

// TestErrorLosesNothing holds that a read that fails half way goes on where it was.
func TestErrorLosesNothing(t *testing.T) {
	broken := errors.New("broken")
	s, b := New(1000, 0), &record.Batch{}
	r := io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(broken))
	if err := s.Fill(b, r, Final); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	b.Reset()
	if err := s.Fill(b, strings.NewReader("c\nd"), MoreMayCome); err != nil || len(b.Records) != 1 || string(b.Records[0].Value) != "abc" {
		t.Fatalf("%v %v", err, b.Records)
	}
	if s.Offset() != 4 || s.ReadTo() != 5 {
		t.Errorf("offset %d, read to %d", s.Offset(), s.ReadTo())
	}
}

type loop struct {
	text []byte
	pos  int
}

func (l *loop) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], l.text[l.pos:])
		n, l.pos = n+k, (l.pos+k)%len(l.text)
	}
	return n, nil
}

func text400() []byte {
	var b []byte
	for i := range 1000 {
		b = append(b, `{"n":`...)
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, `,"pad":"`...)
		b = append(b, strings.Repeat("p", 380+i%40)...)
		b = append(b, "\"}\n"...)
	}
	return b
}

func TestFillAllocatesNothing(t *testing.T) {
	s, r, b := New(16<<20, 0), &loop{text: text400()}, &record.Batch{}
	run := func() {
		b.Reset()
		if err := s.Fill(b, r, Final); err != nil || len(b.Records) == 0 {
			t.Fatal("nothing was read")
		}
	}
	for range 20 {
		run()
	}
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("allocs per batch = %v, want 0", n)
	}
}

func BenchmarkFill(b *testing.B) {
	s, r, batch := New(16<<20, 0), &loop{text: text400()}, &record.Batch{}
	n := 0
	for b.Loop() {
		batch.Reset()
		if err := s.Fill(batch, r, Final); err != nil {
			b.Fatal(err)
		}
		n += len(batch.Records)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/line")
}
