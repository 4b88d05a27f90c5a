package state

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestMain is also the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("KEYSTONE_STATE_VICTIM"); dir != "" {
		victim(dir)
	}
	os.Exit(m.Run())
}

// victim commits epochs and says so, until it is killed.
func victim(dir string) {
	o := Options{}
	if fail := os.Getenv("KEYSTONE_STATE_FAIL"); fail != "" {
		at, _ := strconv.ParseInt(fail, 10, 64)
		var count atomic.Int64
		o.fs = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && count.Add(1) >= at {
				return syscall.ENOSPC
			}
			return nil
		}))
	}
	s, err := tryOpen(dir, o)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() { // a flush that fails is tried again for ever, and commits may wait for it: the store says why
		for range time.Tick(5 * time.Second) {
			s.mu.Lock()
			problem := s.problem
			s.mu.Unlock()
			if problem != nil {
				fmt.Println(problem)
				os.Exit(1)
			}
		}
	}()
	for e, _ := s.Last(); ; {
		e = Epoch{s.Generation(), e.N + 1}
		if err := commitEpoch(s, e.N); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(e.N)
	}
}

// A process that is killed at any moment leaves every epoch whose Commit returned, and no half of one.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	var m model
	rng := rand.New(rand.NewPCG(1, 2))
	last := int64(0)
	for range 15 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "KEYSTONE_STATE_VICTIM="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewScanner(out)
		for range 1 + rng.IntN(60) {
			if !said.Scan() {
				t.Fatal("the victim ended by itself")
			}
			if last, err = strconv.ParseInt(said.Text(), 10, 64); err != nil {
				t.Fatal(said.Text())
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for said.Scan() { // what it had said by then
			if last, err = strconv.ParseInt(said.Text(), 10, 64); err != nil {
				t.Fatal(said.Text())
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // that it was killed
		s := open(t, dir, Options{})
		if got := m.check(t, s); got != last && got != last+1 {
			t.Fatalf("epoch %d is there, and %d was the last one that was said", got, last)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The loss of power at any operation on files keeps what was synced, any part of what was not, and torn writes: every epoch
// whose Commit returned is there, and no half of one.
func TestPowerLoss(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		mem := vfs.NewCrashableMem()
		var m model
		last := int64(0)
		for range 12 {
			// The image is taken in the middle of an operation, from the goroutine that does it.
			var image *vfs.MemFS
			var committed atomic.Int64
			var sure int64
			at := int64(rng.IntN(250))
			var count atomic.Int64
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 100}[rng.IntN(3)], RNG: rng}
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && count.Add(1) == at {
					sure = committed.Load()
					image = mem.CrashClone(cfg)
				}
				return nil
			}))
			s, err := tryOpen("state", Options{fs: fs})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if got := m.check(t, s); got < last {
				t.Fatalf("seed %d: epoch %d, and %d was committed", seed, got, last)
			}
			e, _ := s.Last()
			committed.Store(e.N)
			for count.Load() < at {
				e.N++
				if err := commitEpoch(s, e.N); err != nil {
					t.Fatal(err)
				}
				committed.Store(e.N)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if image == nil { // the count was reached before anything was written, or by none
				image = mem.CrashClone(cfg)
				sure = e.N
			}
			mem, last = image, sure
		}
	}
}

// A disk that refuses to write ends the commits, with an error or with the process, or has them wait and says why; it takes no committed epoch along.
func TestWriteErrors(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 12 {
		dir := t.TempDir()
		at := rng.IntN(400)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "KEYSTONE_STATE_VICTIM="+dir, "KEYSTONE_STATE_FAIL="+strconv.Itoa(at))
		var complaint strings.Builder
		cmd.Stderr = &complaint
		out, err := cmd.Output()
		if err == nil || !strings.Contains(string(out), "no space left") && !strings.Contains(complaint.String(), "pebble") {
			t.Fatalf("at %d: %v\n%s\n%s", at, err, out, complaint.String())
		}
		last := int64(0)
		for line := range strings.Lines(string(out)) {
			if n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err == nil {
				last = n
			}
		}
		s := open(t, dir, Options{})
		var m model
		if got := m.check(t, s); got != last && got != last+1 {
			t.Fatalf("at %d: epoch %d is there, %d was committed", at, got, last)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
