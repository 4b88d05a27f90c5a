package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"keystone/pipeline/record"
	"keystone/sinks"
	sinkkafka "keystone/sinks/kafka"
	"keystone/sources/kafka"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
	"keystone/sources/kafka/embedded"
)

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func begin(t testing.TB, o embedded.Options) *embedded.Broker {
	t.Helper()
	b, err := embedded.Start(within(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func manage(t testing.TB, addrs []string) *admin.Admin {
	t.Helper()
	a, err := admin.New(client.Options{Brokers: addrs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func create(t testing.TB, a *admin.Admin, s admin.StreamSpec) {
	t.Helper()
	rs, err := a.Ensure(within(t), s)
	if err != nil || rs[s.Topic].Err != nil {
		t.Fatal(err, rs)
	}
}

func write(t testing.TB, addrs []string, topic string, n, size int) {
	t.Helper()
	s, err := (&sinkkafka.Config{Client: client.Options{Brokers: addrs}, Topic: topic}).New(sinks.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(within(t)); err != nil {
		t.Fatal(err)
	}
	defer s.Close(within(t))
	for i := range n {
		b := &record.Batch{Records: []record.Record{{Value: append(fmt.Appendf(nil, "%d ", i), make([]byte, size)...)}}}
		done := make(chan error, 1)
		s.Write(within(t), b, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func read(t testing.TB, addrs []string, topic string) []string {
	t.Helper()
	var values []string
	err := kafka.Tap{Client: client.Options{Brokers: addrs}, Topic: topic}.Read(within(t), func(b *record.Batch) error {
		for _, r := range b.Records {
			values = append(values, string(r.Value))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// What was kept is there after a restart: records, topic ids, the cluster's
// id, committed offsets, and the port.
func TestPersists(t *testing.T) {
	dir := t.TempDir()
	b := begin(t, embedded.Options{Dir: dir})
	addr, id := b.Addrs()[0], b.ClusterID()
	a := manage(t, b.Addrs())
	create(t, a, admin.StreamSpec{Topic: "kept", Partitions: 1})
	write(t, b.Addrs(), "kept", 20, 10)
	if err := a.SetOffsets(within(t), "g", "kept", []record.Position{{Partition: 0, Offset: 7, Identity: "x"}}); err != nil {
		t.Fatal(err)
	}
	_, before, err := a.Observe(within(t), "kept")
	if err != nil {
		t.Fatal(err)
	}
	b.Close()

	b = begin(t, embedded.Options{Dir: dir})
	if b.Addrs()[0] != addr || b.ClusterID() != id {
		t.Errorf("now %s %s, was %s %s", b.Addrs()[0], b.ClusterID(), addr, id)
	}
	a = manage(t, b.Addrs())
	cluster, after, err := a.Observe(within(t), "kept")
	if err != nil || cluster != id || after["kept"].ID != before["kept"].ID {
		t.Errorf("%v, cluster %q, topic %+v", err, cluster, after["kept"])
	}
	if got := read(t, b.Addrs(), "kept"); len(got) != 20 || !strings.HasPrefix(got[19], "19 ") {
		t.Errorf("%d records", len(got))
	}
	gs, err := a.Groups(within(t), "g")
	if err != nil || len(gs["g"].Committed["kept"]) != 1 || gs["g"].Committed["kept"][0].Offset != 7 || gs["g"].Committed["kept"][0].Identity != "x" {
		t.Errorf("%v %+v", err, gs["g"])
	}
}

// Two directories are two clusters; the library's own id is the same everywhere.
func TestClusterIDs(t *testing.T) {
	a, b := begin(t, embedded.Options{Dir: t.TempDir()}), begin(t, embedded.Options{})
	if a.ClusterID() == b.ClusterID() || a.ClusterID() == "" {
		t.Error(a.ClusterID(), b.ClusterID())
	}
}

// What was acknowledged is there after the process was killed.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("EMBEDDED_TEST_DIR"); dir != "" {
		b, err := embedded.Start(context.Background(), embedded.Options{Dir: dir})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		create(t, manage(t, b.Addrs()), admin.StreamSpec{Topic: "kept", Partitions: 1})
		write(t, b.Addrs(), "kept", 50, 100)
		fmt.Println("written")
		select {} // until it is killed
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "EMBEDDED_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 8)
	if _, err := out.Read(line); err != nil || !bytes.HasPrefix(line, []byte("written")) {
		t.Fatalf("%v %q", err, line)
	}
	var in *embedded.InUseError
	if _, err := embedded.Start(within(t), embedded.Options{Dir: dir}); !errors.As(err, &in) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second process on the directory: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	b := begin(t, embedded.Options{Dir: dir})
	if got := read(t, b.Addrs(), "kept"); len(got) != 50 {
		t.Errorf("%d of 50 records are left", len(got))
	}
}

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	_, err = embedded.Start(within(t), embedded.Options{Port: port})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:"+strconv.Itoa(port)) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
	// The port of the last time is a wish only.
	dir := t.TempDir()
	b := begin(t, embedded.Options{Dir: dir})
	b.Close()
	taken, err := net.Listen("tcp", b.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if again := begin(t, embedded.Options{Dir: dir}); again.Addrs()[0] == b.Addrs()[0] {
		t.Error("both listen on", again.Addrs())
	}
}

// Without a word in the topic's configuration the oldest records go when a
// partition holds too much; a bound that is changed counts for what is there.
func TestRetains(t *testing.T) {
	dir := t.TempDir()
	b := begin(t, embedded.Options{Dir: dir, RetainBytes: 1 << 30})
	a := manage(t, b.Addrs())
	create(t, a, admin.StreamSpec{Topic: "large", Partitions: 1})
	write(t, b.Addrs(), "large", 100, 10_000)
	b.Close()
	b = begin(t, embedded.Options{Dir: dir, RetainBytes: 100_000, RetainEvery: 10 * time.Millisecond})
	a = manage(t, b.Addrs())
	for ctx := within(t); ; {
		_, now, err := a.ObserveOffsets(ctx, "large")
		if err != nil {
			t.Fatal(err)
		}
		if end := now["large"].End[0]; end != 100 {
			t.Fatal("end is", end)
		}
		if kept := now["large"].End[0] - now["large"].Begin[0]; kept < 15 {
			if kept < 5 {
				t.Errorf("only %d records are left", kept)
			}
			return
		}
	}
}

func TestWarns(t *testing.T) {
	var log bytes.Buffer
	b := begin(t, embedded.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	b.Close()
	if s := log.String(); !strings.Contains(s, "level=WARN") || !strings.Contains(s, "NOT FOR PRODUCTION") || !strings.Contains(s, b.Addrs()[0]) {
		t.Errorf("log: %s", s)
	}
}

func TestReadOnlyDirectory(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Start(within(t), embedded.Options{Dir: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}
