package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// fault breaks something, and waits until all routes deliver again.
func (c *chaos) fault() {
	kind, brk := c.choose()
	for i := 0; !c.only.MatchString(kind); i++ {
		if i == 1000 {
			c.t.Fatalf("no fault is like %q", c.only)
		}
		kind, brk = c.choose()
	}
	c.faults[kind]++
	c.t.Logf("%s %s", time.Now().UTC().Format("15:04:05.000"), kind)
	brk()
	c.delivers(kind)
}

// choose gives a fault, by name.
func (c *chaos) choose() (kind string, fault func()) {
	i := c.rng.IntN(len(c.workers))
	if c.workers[i] == nil {
		i = c.someone()
	}
	switch c.rng.IntN(15) {
	case 0, 1:
		return "worker killed", func() { c.replace(i) }
	case 2:
		return "worker frozen", func() { c.frozen(c.workers[i].cmd.Process.Pid, c.pause()) }
	case 3:
		return "worker stopped and started", func() {
			c.workers[i].stop()
			c.workers[i] = serve(c.t, c.dirs[i])
		}
	case 4:
		return "broker killed", func() {
			b := strconv.Itoa(1 + c.rng.IntN(3))
			c.cluster.run("stop", "--kill", "--data", c.cluster.data, "--broker", b)
			time.Sleep(c.pause()) // how long it is away
			c.cluster.start()
		}
	case 5:
		return "broker frozen", func() { c.frozen(c.brokerPid(1+c.rng.IntN(3)), c.pause()) }
	case 6, 7:
		return "members 1 to 3 or back", c.scale
	case 8:
		return "edit", c.edit
	case 9:
		return "edit and kill", func() {
			c.edit()
			c.replace(c.someone())
		}
	case 10, 11, 12:
		return c.network()
	}
	if c.noDisks != nil {
		return "worker killed", func() { c.replace(i) }
	}
	return c.fullDisk(i)
}

// someone is a worker that runs.
func (c *chaos) someone() int {
	return slices.IndexFunc(c.workers[:], func(p *process) bool { return p != nil })
}

// replace kills a worker and starts another in its place.
func (c *chaos) replace(i int) {
	c.workers[i].kill()
	c.workers[i] = serve(c.t, c.dirs[i])
}

func (c *chaos) brokerPid(b int) int {
	text, err := os.ReadFile(filepath.Join(c.cluster.data, strconv.Itoa(b), "pid"))
	if err != nil {
		c.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		c.t.Fatal(err)
	}
	return pid
}

// fullDisk chooses which disk of a worker is full, and what else happens meanwhile.
func (c *chaos) fullDisk(i int) (kind string, fault func()) {
	which := c.rng.IntN(3)
	disks := [][]*disk{c.disks[i][:1], c.disks[i][1:], c.disks[i][:]}[which]
	kind = "full disk of " + []string{"the state", "the files", "both"}[which]
	meanwhile := func() {}
	switch c.rng.IntN(3) {
	case 0:
		kind, meanwhile = kind+", and an edit", c.edit
	case 1:
		kind, meanwhile = kind+", and a kill", func() { c.replace(i) }
	}
	return kind, func() {
		for _, d := range disks {
			d.fill()
		}
		time.Sleep(c.pause()) // how long it is full
		meanwhile()
		time.Sleep(c.pause())
		for _, d := range disks {
			d.free()
		}
		c.revive(i)
	}
}

// revive starts a worker that has ended because it found a full disk, as whoever watches over it would.
func (c *chaos) revive(i int) {
	p := c.workers[i]
	until(c.t, "a worker is up after its disk was full, or has ended", func() error {
		if p.ended() {
			return nil
		}
		_, err := run(c.t, "status", "-json", p.dir)
		return err
	})
	if !p.ended() {
		return
	}
	if !strings.Contains(p.log.String(), "the disk is full") {
		c.t.Fatalf("keystone serve ended with %v: %s", p.err, p.log)
	}
	c.workers[i] = serve(c.t, c.dirs[i])
}

// pause is how long something is away: mostly shorter than what others wait for, rarely longer than a session.
func (c *chaos) pause() time.Duration {
	if os.Getenv("KEYSTONE_CHAOS") != "" && c.rng.IntN(8) == 0 {
		return 50 * time.Second
	}
	return time.Duration(100+c.rng.IntN(4000)) * time.Millisecond
}

// frozen stops a process as a debugger would: its connections stay, half open.
func (c *chaos) frozen(pid int, d time.Duration) {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	time.Sleep(d) // how long it is frozen
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		c.t.Fatal(err)
	}
}

// scale has three members where there is one, and one where there are more.
func (c *chaos) scale() {
	if slices.Contains(c.workers[:], nil) {
		for i := range c.workers {
			if c.workers[i] == nil {
				c.workers[i] = serve(c.t, c.dirs[i])
			}
		}
		return
	}
	keep := c.rng.IntN(3)
	for i := range c.workers {
		if i == keep {
			continue
		}
		if c.rng.IntN(2) == 0 {
			c.workers[i].stop()
		} else {
			c.workers[i].kill() // the others wait for its session to end
		}
		c.workers[i] = nil
	}
}

// delivers waits until all routes do, and notes how long that took.
func (c *chaos) delivers(after string) {
	begun := time.Now()
	end := func(topic string) func() int64 {
		return func() (n int64) {
			os, err := c.adm.ListEndOffsets(context.Background(), topic)
			if err != nil {
				return -1
			}
			os.Each(func(o kadm.ListedOffset) { n += o.Offset })
			return n
		}
	}
	files := func() (n int64) { // what is committed is in the files
		at, err := c.adm.FetchOffsets(context.Background(), c.group("files"))
		if err != nil {
			return -1
		}
		at.Each(func(o kadm.OffsetResponse) { n += o.At })
		return n
	}
	for _, target := range []struct {
		name  string
		count func() int64
	}{{c.out, end(c.out)}, {c.once, end(c.once)}, {"what is in the files", files}} {
		first := int64(-1)
		until(c.t, fmt.Sprintf("%s grows after %s", target.name, after), func() error {
			n := target.count()
			if first < 0 {
				first = n
			}
			if n <= first {
				return fmt.Errorf("it has %d", n)
			}
			return nil
		})
	}
	c.recover = append(c.recover, time.Since(begun))
}

// mend starts whatever does not run.
func (c *chaos) mend() {
	c.cluster.start()
	for i := range c.workers {
		if c.workers[i] == nil {
			c.workers[i] = serve(c.t, c.dirs[i])
		}
	}
}
