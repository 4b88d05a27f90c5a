package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// disk is a small file system in memory, which can be filled to its last byte.
type disk struct {
	t    *testing.T
	path string
}

// newDisk mounts one at a folder that it makes. The error says why that is not possible here.
func newDisk(t *testing.T, path string, mib int) (*disk, error) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", mib), "tmpfs", path).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("a small disk cannot be mounted, which takes Linux and root: %w: %s", err, bytes.TrimSpace(out))
	}
	// Cleanups run in the reverse order: whoever writes there was started later, and has ended.
	t.Cleanup(func() {
		if out, err := exec.Command("umount", path).CombinedOutput(); err != nil {
			t.Errorf("umount %s: %v: %s", path, err, bytes.TrimSpace(out))
		}
	})
	return &disk{t, path}, nil
}

func (d *disk) filler() string { return filepath.Join(d.path, ".filler") }

// fill takes all that is free.
func (d *disk) fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // what counts is that the disk is full
	piece := make([]byte, 1<<16)
	for len(piece) > 0 {
		switch _, err := f.Write(piece); {
		case errors.Is(err, syscall.ENOSPC):
			piece = piece[:len(piece)/2]
		case err != nil:
			d.t.Fatal(err)
		}
	}
}

// free gives back what fill took.
func (d *disk) free() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatal(err)
	}
}

// lines reads what a route wrote into the files of one writer, and fails on what should not be there: a line
// that is not whole, an event that the filter does not want, first lines of a source partition that are out of
// order. seen has what other writers wrote, and gets what is new. It gives the number of repeated ones.
func (l load) lines(t *testing.T, file string, seen map[event]bool) (repeated int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		t.Fatalf("%s ends within a line", file)
	}
	here := map[event]bool{}
	last := map[int32]int{}
	for line := range strings.Lines(string(text)) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v: %q", file, err, line)
		}
		if e.P < 0 || e.P >= l.partitions || e.Seq < 0 || e.Seq >= l.each || e.Seq%5 != 0 {
			t.Fatalf("%s: an event that should not be there: %s", file, line)
		}
		if before, ok := last[e.P]; ok && !here[e] && e.Seq <= before {
			t.Fatalf("%s: the first line of %+v comes after %d", file, e, before)
		}
		if seen[e] {
			repeated++
		}
		if !here[e] {
			last[e.P] = e.Seq
		}
		here[e], seen[e] = true, true
	}
	return repeated
}

// wanted is how many events of the load the filter lets through.
func (l load) wanted() int { return int(l.partitions) * ((l.each + 4) / 5) }

const diskConfig = `
keystone {
  namespace = %q
  state_dir = "disks/state"
}

cluster "main" {
  brokers = [%q]
}

stream "in" {
  topic      = %q
  partitions = 4
}

sink "file" "plays" {
  path = "disks/files/plays.ndjson"
}

route "plays" {
  from   = stream.in
  filter = %q
  to     = sink.plays
  delivery {
    commit_interval = "100ms"
  }
}
`

// TestRealFullDisk fills the disk of the files, of the state, or of both, under a route from Kafka to files. The
// route says so while it is full. An edit then takes effect when there is room again, a process that is killed
// meanwhile comes back or says why it does not, and afterwards nothing is lost and no line is torn.
func TestRealFullDisk(t *testing.T) {
	addr := broker(t)
	for _, c := range []struct{ name, at string }{
		{"of the files", "disks/files"},
		{"of the state", "disks/state"},
		{"of both", "disks"},
	} {
		for _, killed := range []bool{false, true} {
			name := c.name
			if killed {
				name += ", and a kill"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				testFullDisk(t, addr, c.at, killed)
			})
		}
	}
}

func testFullDisk(t *testing.T, addr, at string, killed bool) {
	dir := t.TempDir()
	d, err := newDisk(t, filepath.Join(dir, at), 16)
	if err != nil {
		t.Skip(err)
	}
	l := load{topic: name("in-"), partitions: 4, each: 9000}
	ns := name("disk-")
	edit := func(form int) { config(t, dir, fmt.Sprintf(diskConfig, ns, addr, l.topic, samePlay[form])) }
	edit(0)
	file := filepath.Join(dir, "disks", "files", "plays.ndjson")
	p := serve(t, dir)
	p.healthy("route.plays", "running")
	first, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	l.produce(t, client(t, addr), func(sent int) {
		switch sent {
		case 3000:
			until(t, "the first lines are there", func() error { return written(file) })
			d.fill()
		case 6000:
			p.complains(t, "the disk is full")
			edit(1)
			if at != "disks/files" {
				until(t, "the status says why the edit is not taken", func() error {
					s, err := p.status()
					if err == nil && (len(s.Diagnostics) != 1 || !strings.Contains(s.Diagnostics[0].Detail, "the disk is full")) {
						err = fmt.Errorf("it says %+v", s.Diagnostics)
					}
					return err
				})
			}
			if killed {
				p.kill()
				p = serve(t, dir)
				p.endsOrComplains(t, "the disk is full")
			}
			d.free()
			if p.ended() {
				p = serve(t, dir)
			}
		}
	})
	until(t, "the edit takes effect", func() error {
		s, err := p.status()
		if err == nil && s.Serial <= first.Serial {
			err = fmt.Errorf("what runs is still revision %d", s.Serial)
		}
		return err
	})
	adm := admin(t, addr)
	until(t, "everything is committed", func() error {
		return l.committed(adm, "keystone."+ns+".default.route.plays")
	})
	p.healthy("route.plays", "running")
	p.addsUp(t, "route.plays")
	p.stop()
	seen := map[event]bool{}
	repeated := l.lines(t, file, seen)
	if len(seen) != l.wanted() {
		t.Errorf("%d of %d events are in the file", len(seen), l.wanted())
	}
	if !killed && repeated > 0 {
		t.Errorf("%d lines are repeated, though nothing was killed", repeated)
	}
	t.Logf("%d lines, %d repeated", len(seen)+repeated, repeated)
}

// written tells whether a file has something in it.
func written(file string) error {
	switch fi, err := os.Stat(file); {
	case err != nil:
		return err
	case fi.Size() == 0:
		return errors.New("it is empty")
	}
	return nil
}

// ended tells whether the process is no more.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// complains waits until the status of the route says so.
func (p *process) complains(t *testing.T, words string) {
	t.Helper()
	until(t, "route.plays says that "+words, func() error {
		s, err := p.status()
		if err != nil {
			return err
		}
		return s.says("route.plays", words)
	})
}

// says tells whether the error of an address has these words.
func (s status) says(address, words string) error {
	for _, a := range s.Addresses {
		if a.Address == address && a.Health != "running" && strings.Contains(a.Error, words) {
			return nil
		} else if a.Address == address {
			return fmt.Errorf("it is %s: %q", a.Health, a.Error)
		}
	}
	return errors.New("not there")
}

// endsOrComplains waits until the process has ended with these words, or its status has them.
func (p *process) endsOrComplains(t *testing.T, words string) {
	t.Helper()
	until(t, "a process on a full disk says so", func() error {
		if p.ended() {
			if p.err == nil || !strings.Contains(p.log.String(), words) {
				t.Fatalf("keystone serve ended with %v: %s", p.err, p.log)
			}
			t.Logf("keystone serve ended: %s", p.log)
			return nil
		}
		var s status
		out, err := run(t, "status", "-json", p.dir)
		if err != nil {
			return err
		}
		return errors.Join(json.Unmarshal([]byte(out), &s), s.says("route.plays", words))
	})
}

// addsUp wants that every record that a route has read has an outcome.
func (p *process) addsUp(t *testing.T, route string) {
	t.Helper()
	until(t, "the counters of "+route+" add up", func() error {
		s, err := p.status()
		if err != nil {
			return err
		}
		for _, a := range s.Addresses {
			if c := a.Counters; a.Address == route && (c.InFlight != 0 || c.Read != c.Delivered+c.Filtered+c.Dropped+c.DeadLettered+c.Abandoned) {
				return fmt.Errorf("%+v", *c)
			}
		}
		return nil
	})
}
