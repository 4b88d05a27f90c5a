package stdout

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sinks/sinktest"
)

// to makes a sink that writes to a file, as if that were standard output.
func to(path string) *sink {
	return &sink{open: func() (*os.File, error) {
		return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	}}
}

func TestContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Case {
		path := filepath.Join(t.TempDir(), "out")
		return sinktest.Case{
			New: func() sinks.Sink { return to(path) },
			Read: func(t *testing.T) []string {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
			},
			Unopenable: func() sinks.Sink {
				return &sink{open: func() (*os.File, error) { return nil, errors.New("not open") }}
			},
		}
	})
}

func lines(values ...string) *record.Batch {
	b := &record.Batch{}
	for _, v := range values {
		b.Records = append(b.Records, record.Record{Value: []byte(v)})
	}
	return b
}

func put(ctx context.Context, s *sink, values ...string) (got error) {
	s.Write(ctx, lines(values...), func(err error) { got = err })
	return got
}

// piped gives a sink on a pipe, opened as standard output is, and the pipe's other end.
func piped(t *testing.T) (*sink, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	s := &sink{open: func() (*os.File, error) { return os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0) }}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s, r
}

func TestReaderHasGone(t *testing.T) {
	s, r := piped(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	err := put(t.Context(), s, "1")
	if !sinks.IsPermanent(err) || !errors.Is(err, syscall.EPIPE) || !strings.Contains(err.Error(), "closed by its reader") {
		t.Errorf("got %v", err)
	}
}

// TestReaderIsSlow gives a write up that waits, and goes on within the line where it was.
func TestReaderIsSlow(t *testing.T) {
	s, r := piped(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	values := []string{strings.Repeat("a", 30_000), strings.Repeat("b", 30_000), strings.Repeat("c", 30_000), strings.Repeat("d", 30_000)}
	err := put(ctx, s, values...)
	var partial *sinks.PartialError
	if !errors.As(err, &partial) || partial.Failures[0].Outcome != sinks.Retryable {
		t.Fatalf("got %v, want that some were written", err)
	}
	first := partial.Failures[0].Index
	if first == 0 || first != len(values)-len(partial.Failures) {
		t.Errorf("%d failures, from %d on", len(partial.Failures), first)
	}
	all := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		all <- string(text)
	}()
	if err := put(t.Context(), s, values[first:]...); err != nil {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got, want := <-all, strings.Join(values, "\n")+"\n"; got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}

func TestFullDisk(t *testing.T) {
	s := to("/dev/full")
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), s, "1"); err == nil || sinks.IsPermanent(err) || !strings.Contains(err.Error(), "full") {
		t.Errorf("got %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	s := to(path)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := lines(`{"a":1}`, "", "{\r\n\"b\": 2\n}")
	b.Records[1].Value = nil
	var got error
	s.Write(t.Context(), b, func(err error) { got = err })
	var partial *sinks.PartialError
	if !errors.As(got, &partial) || len(partial.Failures) != 1 || partial.Failures[0].Index != 1 || partial.Failures[0].Outcome != sinks.Rejected {
		t.Errorf("got %v, want that the null value is refused", got)
	}
	if text, _ := os.ReadFile(path); string(text) != "{\"a\":1}\n{  \"b\": 2 }\n" {
		t.Errorf("got %q", text)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestStandardOutput runs this test in a process of its own, whose standard
// output is a pipe that is closed: it gets an error and lives on.
func TestStandardOutput(t *testing.T) {
	if os.Getenv("KEYSTONE_TEST_STDOUT") != "" {
		child()
	}
	for _, mode := range []string{"closed", "read"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestStandardOutput$")
		cmd.Env = append(os.Environ(), "KEYSTONE_TEST_STDOUT="+mode)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		text := ""
		if mode == "closed" {
			err = out.Close()
		} else {
			var all []byte
			all, err = io.ReadAll(out)
			text = string(all)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: the process ended with %v: %s", mode, err, said.String())
		}
		if mode == "closed" && !strings.Contains(said.String(), "closed by its reader") {
			t.Errorf("it said %q", said.String())
		}
		if mode == "read" && !strings.HasPrefix(text, "one\ntwo\n") {
			t.Errorf("it wrote %q", text)
		}
	}
}

// child writes until standard output is closed, or two lines.
func child() {
	c := new(Config)
	s, err := c.New(sinks.Deps{})
	if err == nil {
		err = s.Open(context.Background())
	}
	if err != nil {
		panic(err)
	}
	for {
		s.Write(context.Background(), lines("one", "two"), func(e error) { err = e })
		if err != nil || os.Getenv("KEYSTONE_TEST_STDOUT") == "read" {
			break
		}
	}
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
	}
	_ = s.Close(context.Background())
	os.Exit(0)
}

func TestWriteAllocatesLittle(t *testing.T) {
	s := to("/dev/null")
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	var values []string
	for range 500 {
		values = append(values, strings.Repeat("x", 80))
	}
	b, done := lines(values...), func(error) {}
	s.Write(t.Context(), b, done)
	if n := testing.AllocsPerRun(100, func() { s.Write(t.Context(), b, done) }); n > 10 { // of a batch: watching the context
		t.Errorf("allocs per batch of 500 = %v, want at most 10", n)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
