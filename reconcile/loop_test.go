package reconcile

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
)

func TestLoopReachesTheGoalInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startLoop(t, newSimulated(), newMemory())
		defer h.stop()
		h.goal(1, plays())
		s := h.settle(1)
		if len(s.Done) != 8 || len(s.Failed)+len(s.Withheld)+len(s.Waiting) != 0 {
			t.Fatalf("settled: %+v", s)
		}
		log := h.rt.log()
		for _, pair := range [][2]string{{"create cluster.main", "create stream.plays"}, {"create stream.tv", "create route.tv"}, {"create sink.search", "create route.archive"}} {
			if slices.Index(log, pair[0]) > slices.Index(log, pair[1]) {
				t.Errorf("%s came after %s: %v", pair[0], pair[1], log)
			}
		}
		h.workers("archive", "in", "tv")

		b := plays()
		delete(b.res, must("route.archive"))
		delete(b.res, must("sink.search"))
		b.set(must("source.demo"), "rate", "20")
		h.goal(2, b)
		h.settle(2)
		log = h.rt.log()
		slices.Sort(log)
		if want := []string{"delete route.archive", "delete sink.search", "update route.in", "update source.demo"}; !slices.Equal(log, want) {
			t.Errorf("applied %v, want %v", log, want)
		}
		h.workers("in", "tv")
	})
}

// TestKilledAtAnyStep kills the process at each step of going from one
// revision to the next; a new process completes it.
func TestKilledAtAnyStep(t *testing.T) {
	second := plays()
	second.rename(must("route.tv"), must("route.television"))
	second.moved = []configs.Moved{{From: must("route.tv"), To: must("route.television")}}
	second.set(must("sink.search"), "path", `"b"`)
	delete(second.res, must("route.in"))
	delete(second.res, must("source.demo"))
	second.res[must("stream.new")] = block{"", map[string]string{"cluster": "cluster.main", "partitions": "1", "on_destroy": `"keep"`}}
	second.res[must("route.new")] = block{"", map[string]string{"from": "stream.tv", "to": "stream.new"}}
	for step := 0; ; step++ {
		survived := false
		synctest.Test(t, func(t *testing.T) {
			ledger, rt := newMemory(), newSimulated()
			h := startLoop(t, rt, ledger)
			h.goal(1, plays())
			h.settle(1)
			h.stop()
			rt.w.crash()

			f := &fuse{left: step}
			rt.fuse, ledger.fuse = f, f
			h = startLoop(t, rt, ledger)
			h.goal(2, second)
			settled := make(chan bool, 1)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { _, err := h.loop.Settle(ctx, 2); settled <- err == nil }()
			synctest.Wait()
			cancel()
			<-settled
			h.stop()
			f.mu.Lock()
			survived = f.left >= 0
			f.mu.Unlock()

			rt.fuse, ledger.fuse = nil, nil
			rt.w.crash()
			h = startLoop(t, rt, ledger)
			h.goal(2, second)
			if s := h.settle(2); len(s.Failed)+len(s.Withheld)+len(s.Waiting) != 0 {
				t.Errorf("killed at step %d: %+v", step, s)
			}
			h.workers("archive", "new", "television")
			h.stop()
			if g := rt.w.groups[must("route.television")]; g != "keystone.default.default.route.tv" {
				t.Errorf("killed at step %d: the renamed route is in group %q", step, g)
			}
			if len(rt.w.topics) != 3 || len(rt.deleted()) != 0 || rt.w.made != 3 {
				t.Errorf("killed at step %d: topics %v, deleted %v", step, rt.w.topics, rt.deleted())
			}
			if len(ledger.rows) != len(second.res) {
				t.Errorf("killed at step %d: %d rows, want %d", step, len(ledger.rows), len(second.res))
			}
			if r := rt.w.workers[must("route.archive")]; r == nil || ledger.rows[must("route.archive")].Deps[must("sink.search")].Options["path"].Canonical != `"b"` {
				t.Errorf("killed at step %d: route.archive does not write to the new path", step)
			}
		})
		if survived {
			if step < 20 {
				t.Errorf("only %d steps were tried", step)
			}
			break
		}
		if t.Failed() {
			break
		}
	}
}

func TestAFailingAddressBlocksNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newSimulated()
		rt.fails[must("route.in")] = errors.New("connection refused")
		rt.fails[must("route.tv")] = errors.New("panic")
		h := startLoop(t, rt, newMemory())
		defer h.stop()
		h.goal(1, plays())
		s := h.settle(1)
		if len(s.Done) != 6 || len(s.Failed) != 2 {
			t.Fatalf("settled: %+v", s)
		}
		if err := s.Failed[1].Err.Error(); !strings.Contains(err, "panic: boom") {
			t.Errorf("the panic reads %q", err)
		}
		h.workers("archive")
		if f := h.loop.Status().Failing[must("route.in")]; f.Failures != 1 || f.Err != "connection refused" || !f.Next.Equal(time.Now().Add(500*time.Millisecond)) {
			t.Errorf("failing: %+v", f)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		var pauses []time.Duration
		times := rt.at(must("route.in"))
		for i := range times[1:] {
			pauses = append(pauses, times[i+1].Sub(times[i]))
		}
		if want := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}; !slices.Equal(pauses, want) {
			t.Errorf("pauses between attempts: %v, want %v", pauses, want)
		}
		if n := len(rt.at(must("route.archive"))); n != 1 {
			t.Errorf("a route that is well was applied %d times", n)
		}

		b := plays()
		b.set(must("route.in"), "filter", `"fixed"`)
		rt.set(func() { delete(rt.fails, must("route.in")) })
		at := time.Now()
		h.goal(2, b)
		h.settle(2)
		if times := rt.at(must("route.in")); !times[len(times)-1].Equal(at) {
			t.Errorf("an edited route was not tried at once")
		}
		h.workers("archive", "in")
	})
}

func TestWhatRefersToWhatIsNotThereWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newSimulated()
		rt.fails[must("stream.tv")] = errors.New("not authorized")
		h := startLoop(t, rt, newMemory())
		defer h.stop()
		h.goal(1, plays())
		s := h.settle(1)
		if len(s.Failed) != 1 || len(s.Waiting) != 2 {
			t.Fatalf("settled: %+v", s)
		}
		h.workers("in")
		reasons := func() (said []string) {
			for _, w := range h.loop.Status().Waiting {
				said = append(said, w.Change.Addr.String()+" "+w.Reason)
			}
			slices.Sort(said)
			return said
		}
		if got := reasons(); !strings.HasSuffix(got[0], "waits for stream.tv, which is not there") {
			t.Errorf("waiting: %q", got)
		}
		rt.set(func() { rt.offline = map[addr.Addr]string{must("cluster.main"): "connection refused"} })
		h.loop.Trigger()
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if got := reasons(); !strings.HasSuffix(got[0], "waits for stream.tv: cluster.main cannot be reached") {
			t.Errorf("waiting: %q", got)
		}
		rt.set(func() { clear(rt.fails); rt.offline = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		h.workers("archive", "in", "tv")
	})
}

func TestFailedWorkersAreRestartedWithBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newSimulated()
		h := startLoop(t, rt, newMemory())
		defer h.stop()
		h.goal(1, plays())
		h.settle(1)
		tv := must("route.tv")
		first := len(rt.at(tv))
		for i := range 4 {
			rt.set(func() { rt.failed[tv] = State{Error: "boom", Since: time.Now(), Restarts: i} })
			h.loop.Trigger()
			synctest.Wait()
			failed := time.Now()
			time.Sleep(500*time.Millisecond<<i - 1)
			synctest.Wait()
			if n := len(rt.at(tv)); n != first+i {
				t.Fatalf("failure %d: restarted after %v", i, rt.at(tv)[n-1].Sub(failed))
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if n := len(rt.at(tv)); n != first+i+1 {
				t.Fatalf("failure %d: not restarted in time", i)
			}
		}
		st := h.loop.Status().Observed.States[tv]
		if len(st.Conditions) != 1 || st.Conditions[0].Kind != CrashLooping {
			t.Errorf("conditions: %+v", st.Conditions)
		}
		if n := len(rt.at(must("route.in"))); n != 1 {
			t.Errorf("another route was applied %d times", n)
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if f := h.loop.Status(); len(f.Failing) != 0 || len(f.Observed.States[tv].Conditions) != 0 {
			t.Errorf("a route that is well for long is still failing: %+v", f.Failing)
		}
	})
}

func TestASlowChangeBlocksNoReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newSimulated()
		block := make(chan struct{})
		rt.blocks[must("route.archive")] = block
		h := startLoop(t, rt, newMemory())
		defer h.stop()
		h.goal(1, plays())
		synctest.Wait()
		h.workers("in", "tv")
		b := plays()
		b.set(must("route.tv"), "filter", `"b"`)
		b.set(must("route.archive"), "filter", `"b"`)
		h.goal(2, b)
		synctest.Wait()
		if got := rt.filter("route.tv"); got != `"b"` {
			t.Errorf("the reload waits for another route: filter %s", got)
		}
		close(block)
		h.settle(2)
		h.workers("archive", "in", "tv")
		if got := rt.filter("route.archive"); got != `"b"` {
			t.Errorf("the slow route stays at the old goal: filter %s", got)
		}
		if n := len(rt.at(must("route.archive"))); n != 2 {
			t.Errorf("applied %d times, want once per goal", n)
		}
	})
}

// TestAGoalThatComesWhileAnotherIsBegun: a route that is being started for
// the earlier goal goes with the later one, and then the stream that it used.
func TestAGoalThatComesWhileAnotherIsBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newSimulated()
		block := make(chan struct{})
		rt.blocks[must("route.archive")], rt.blocks[must("route.tv")] = block, block
		ledger := newMemory()
		h := startLoop(t, rt, ledger)
		defer h.stop()
		h.goal(1, plays())
		synctest.Wait()
		b := plays()
		for _, a := range []string{"route.archive", "route.tv", "stream.tv"} {
			delete(b.res, must(a))
		}
		h.goal(2, b, must("stream.tv"))
		synctest.Wait()
		close(block)
		if s := h.settle(2); len(s.Waiting)+len(s.Failed)+len(s.Withheld) != 0 {
			t.Errorf("settled: %+v", s)
		}
		h.workers("in")
		if d := rt.deleted(); !slices.Equal(d, []string{"tv"}) || len(ledger.rows) != len(b.res) {
			t.Errorf("deleted %v, %d rows", d, len(ledger.rows))
		}
	})
}

func TestSlowChangesTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newSimulated()
		rt.blocks[must("route.in")] = make(chan struct{})
		h := startLoop(t, rt, newMemory())
		defer h.stop()
		h.goal(1, plays())
		s := h.settle(1)
		if len(s.Failed) != 1 || s.Failed[0].Elapsed != 2*time.Minute || !strings.Contains(s.Failed[0].Err.Error(), "not done within 2m0s") {
			t.Errorf("settled: %+v", s.Failed)
		}
	})
}

func TestDestructiveChangesWaitForConsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newSimulated()
		ledger := newMemory()
		h := startLoop(t, rt, ledger)
		h.goal(1, plays())
		h.settle(1)
		h.rt.log()

		b := plays()
		b.set(must("stream.tv"), "partitions", "1") // can only be done by a new topic
		b.set(must("route.in"), "filter", `"b"`)
		h.goal(2, b)
		s := h.settle(2)
		if len(s.Withheld) != 1 || s.Withheld[0].Change.Addr != must("stream.tv") || len(s.Waiting) != 0 {
			t.Fatalf("settled: %+v", s)
		}
		if log := h.rt.log(); !slices.Equal(log, []string{"drain route.in"}) && !slices.Equal(log, []string{"update route.in"}) {
			t.Errorf("applied %v", log)
		}
		// A new process with the same goal runs everything, with the topic as it is.
		h.stop()
		rt.w.crash()
		h = startLoop(t, rt, ledger)
		defer func() { h.stop() }()
		h.goal(2, b)
		h.settle(2)
		h.workers("archive", "in", "tv")
		if len(rt.deleted()) != 0 {
			t.Fatalf("deleted %v", rt.deleted())
		}
		var withheld []string
		for _, e := range h.events {
			if e.Phase == PhaseWithheld {
				withheld = append(withheld, e.Addr.String())
			}
		}
		if !slices.Equal(withheld, []string{"stream.tv"}) {
			t.Errorf("withheld events: %v", withheld)
		}
		h.rt.log()

		h.goal(2, b, must("stream.tv"), must("route.archive"))
		synctest.Wait()
		if !slices.Equal(rt.deleted(), []string{"tv"}) {
			t.Errorf("deleted %v after consent", rt.deleted())
		}
		log := h.rt.log()
		slices.Sort(log)
		if want := []string{"drain route.tv", "replace route.archive", "replace stream.tv"}; !slices.Equal(log, want) {
			t.Errorf("applied %v, want %v", log, want)
		}

		delete(b.res, must("route.archive"))
		delete(b.res, must("route.tv"))
		delete(b.res, must("stream.tv"))
		h.goal(3, b)
		if s := h.settle(3); len(s.Withheld) != 1 {
			t.Errorf("settled: %+v", s)
		}
		h.workers("in")
		if len(rt.deleted()) != 1 {
			t.Errorf("deleted %v", rt.deleted())
		}
		h.goal(3, b, must("stream.tv"))
		synctest.Wait()
		if len(rt.deleted()) != 2 || len(ledger.rows) != len(b.res) {
			t.Errorf("deleted %v, %d rows", rt.deleted(), len(ledger.rows))
		}
	})
}

func TestLedgerThatFailsStopsNothingForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := newMemory()
		ledger.fail = errors.New("disk full")
		h := startLoop(t, newSimulated(), ledger)
		defer h.stop()
		h.goal(1, plays())
		if _, err := h.loop.Settle(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Fatalf("Settle = %v", err)
		}
		h.workers()
		ledger.mu.Lock()
		ledger.fail = nil
		ledger.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		h.workers("archive", "in", "tv")
	})
}

func TestAnIdleLoopOnlyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, ledger := newSimulated(), newMemory()
		h := startLoop(t, rt, ledger)
		defer h.stop()
		h.goal(1, plays())
		h.settle(1)
		rt.log()
		saves, observes := ledger.count(), rt.looks()
		time.Sleep(time.Minute)
		synctest.Wait()
		if log := rt.log(); len(log) != 0 || ledger.count() != saves {
			t.Errorf("applied %v, %d writes", log, ledger.count()-saves)
		}
		if n := rt.looks() - observes; n != 6 {
			t.Errorf("looked %d times in a minute, want every 10 s", n)
		}
	})
}

func TestNothingIsConcludedFromUnreachableClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newSimulated()
		h := startLoop(t, rt, newMemory())
		defer h.stop()
		h.goal(1, plays())
		h.settle(1)
		rt.log()
		rt.set(func() {
			clear(rt.w.topics)
			rt.offline = map[addr.Addr]string{must("cluster.main"): "connection refused"}
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if log := rt.log(); len(log) != 0 {
			t.Errorf("applied %v while the cluster was away", log)
		}
		rt.set(func() { rt.offline = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		log := rt.log()
		slices.Sort(log)
		if want := []string{"repair stream.plays", "repair stream.tv"}; !slices.Equal(log, want) {
			t.Errorf("applied %v, want %v", log, want)
		}
	})
}

func TestSettleOfAGoalThatWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newSimulated()
		rt.blocks[must("route.in")] = make(chan struct{})
		h := startLoop(t, rt, newMemory())
		defer h.stop()
		h.goal(1, plays())
		err := make(chan error, 1)
		go func() { _, e := h.loop.Settle(t.Context(), 1); err <- e }()
		synctest.Wait()
		h.goal(2, plays())
		var stale *StaleError
		if e := <-err; !errors.As(e, &stale) {
			t.Errorf("Settle = %v", e)
		}
	})
}

func TestManyRoutesShareFewWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, ledger := newSimulated(), newMemory()
		h := startLoop(t, rt, ledger)
		defer func() { h.stop() }()
		h.goal(1, manyRoutes(1000))
		if s := h.settle(1); len(s.Done) != 1201 {
			t.Fatalf("%d done", len(s.Done))
		}
		h.stop()
		rt.w.crash()
		saves := ledger.count()
		h = startLoop(t, rt, ledger)
		h.goal(1, manyRoutes(1000))
		h.settle(1)
		rt.set(func() {
			if len(rt.w.workers) != 1000 {
				t.Errorf("%d workers after a restart", len(rt.w.workers))
			}
		})
		if n := ledger.count() - saves; n != 0 {
			t.Errorf("restarting what was applied wrote %d times", n)
		}
	})
}
