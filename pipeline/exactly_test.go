package pipeline_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/configs"
	"keystone/pipeline"
	"keystone/pipeline/record"
	"keystone/sinks"
)

func TestExactlyOnce(t *testing.T) {
	l := newLab(t)
	l.write(500, nil)
	w := l.start(configs.DeadLetter)
	l.settled()
	w.drain()
	l.once("out", kept)
}

// TestExactlyOnceOverRebalances has workers come and go while records come.
func TestExactlyOnceOverRebalances(t *testing.T) {
	l := newLab(t)
	l.write(200, nil)
	a := l.start(configs.DeadLetter)
	for range 3 {
		b := l.start(configs.DeadLetter)
		l.write(300, nil)
		b.owns(1)
		l.write(300, nil)
		a.drain()
		l.write(300, nil)
		b.owns(labParts)
		a = b
	}
	l.settled()
	a.drain()
	l.once("out", kept)
}

// owns waits until the worker has at least n partitions.
func (w *labWorker) owns(n int) {
	w.l.t.Helper()
	for ctx := w.l.ctx(); len(w.Stats().Lanes) < n; {
		select {
		case err := <-w.err:
			w.l.t.Fatalf("the worker ended: %v", err)
		case <-ctx.Done():
			w.l.t.Fatalf("the worker never had %d partitions: %+v", n, w.Stats())
		case <-time.After(time.Millisecond):
		}
	}
}

// cuts makes connections that a test can cut, whatever is on its way on them.
type cuts struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cuts) dial(ctx context.Context, network, host string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, host)
	if err == nil {
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *cuts) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// TestExactlyOnceWithCutConnections loses answers, those to the end of a
// transaction among them, so that nobody knows whether it took effect.
func TestExactlyOnceWithCutConnections(t *testing.T) {
	l := newLab(t)
	var c cuts
	l.o.Dial = c.dial
	w := l.start(configs.DeadLetter)
	for range 40 {
		l.write(40, nil)
		c.cut()
	}
	l.settled()
	w.drain()
	l.once("out", kept)
}

// endTxn is the request that ends a transaction, by Kafka's number.
const endTxn = 26

// answers loses the answer to every nth end of a transaction: the request is taken,
// or, if it is lost itself, it is not.
type answers struct {
	mu           sync.Mutex
	n, every     int
	lost         int
	loseRequests bool
}

func (a *answers) dial(ctx context.Context, network, host string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, host)
	return &answering{Conn: conn, a: a}, err
}

type answering struct {
	net.Conn
	a    *answers
	deaf atomic.Bool
}

func (c *answering) Write(b []byte) (int, error) {
	if len(b) >= 6 && binary.BigEndian.Uint16(b[4:]) == endTxn {
		c.a.mu.Lock()
		c.a.n++
		lose, request := c.a.n%c.a.every == 0, c.a.loseRequests
		if lose {
			c.a.lost++
		}
		c.a.mu.Unlock()
		if lose && request {
			_ = c.Close()
			return 0, net.ErrClosed
		}
		c.deaf.Store(lose)
	}
	return c.Conn.Write(b)
}

func (c *answering) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.deaf.Load() {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// TestExactlyOnceEndWithoutAnswer loses the answer to the end of transactions that were committed, and
// the request itself. Both look the same to the worker; its counters tell them apart afterwards.
func TestExactlyOnceEndWithoutAnswer(t *testing.T) {
	for _, loseRequests := range []bool{false, true} {
		t.Run(fmt.Sprintf("request lost=%v", loseRequests), func(t *testing.T) {
			l := newLab(t)
			a := &answers{every: 3, loseRequests: loseRequests}
			l.o.Dial = a.dial
			w := l.start(configs.DeadLetter)
			for range 15 {
				l.write(20, nil)
				l.settled()
			}
			w.drain()
			l.once("out", kept)
			c := w.Stats().Total
			if want := int64(labParts * 300 * 9 / 10); c.Delivered != want {
				t.Errorf("%d delivered, want %d: %+v", c.Delivered, want, c)
			}
			if a.lost < 3 {
				t.Errorf("%d of %d ends were lost", a.lost, a.n)
			}
			t.Logf("%d of %d ends lost, %d records read again", a.lost, a.n, c.Abandoned)
		})
	}
}

// forgetful says of every third commit that nobody knows what became of it.
type forgetful struct {
	sinks.Transactional
	n     int
	taken bool // it took effect
}

func (f *forgetful) Commit(ctx context.Context, at record.GroupOffsets) error {
	if f.n++; f.n%3 != 0 {
		return f.Transactional.Commit(ctx, at)
	}
	if f.taken {
		if err := f.Transactional.Commit(ctx, at); err != nil {
			return err
		}
	}
	return errors.New("no answer")
}

// TestExactlyOnceUnknownOutcome wants the group to decide: what had been committed counts and is not read again.
func TestExactlyOnceUnknownOutcome(t *testing.T) {
	for _, taken := range []bool{true, false} {
		t.Run(fmt.Sprintf("taken=%v", taken), func(t *testing.T) {
			l := newLab(t)
			l.wrap = func(s sinks.Transactional) sinks.Sink { return &forgetful{Transactional: s, taken: taken} }
			w := l.start(configs.DeadLetter)
			for range 12 {
				l.write(20, nil)
				l.settled()
			}
			w.drain()
			l.once("out", kept)
			c := w.Stats().Total
			if want := int64(labParts * 240 * 9 / 10); c.Delivered != want {
				t.Errorf("%d delivered, want %d: %+v", c.Delivered, want, c)
			}
			if !taken && c.Abandoned == 0 {
				t.Errorf("nothing was read again: %+v", c)
			}
		})
	}
}

// TestExactlyOnceOldProtocol has a cluster that runs transactions as before KIP-890.
func TestExactlyOnceOldProtocol(t *testing.T) {
	l := newLab(t)
	req := kmsg.NewPtrUpdateFeaturesRequest()
	f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	f.Feature, f.MaxVersionLevel, f.UpgradeType = "transaction.version", 1, 2
	req.FeatureUpdates = append(req.FeatureUpdates, f)
	resp, err := req.RequestWith(l.ctx(), l.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
	var c cuts
	l.o.Dial = c.dial
	w := l.start(configs.DeadLetter)
	for range 10 {
		l.write(40, nil)
		c.cut()
		l.write(40, nil)
		l.settled()
	}
	w.drain()
	l.once("out", kept)
}

// TestExactlyOnceAfterAKill has a worker that ends in the middle, like one that
// was killed: its successor has another name, as one of another installation.
func TestExactlyOnceAfterAKill(t *testing.T) {
	l := newLab(t)
	for range 5 {
		l.write(400, nil)
		w := l.start(configs.DeadLetter)
		w.owns(labParts)
		l.write(100, nil)
		w.stop(errors.New("killed"))
		<-w.Done()
		w.balanced()
	}
	w := l.start(configs.DeadLetter)
	l.settled()
	w.drain()
	l.once("out", kept)
}

// TestExactlyOnceSwapsBetweenTransactions changes the program under load. Each
// transaction has an epoch of its own, which every record of it carries.
func TestExactlyOnceSwapsBetweenTransactions(t *testing.T) {
	l := newLab(t)
	w := l.start(configs.DeadLetter)
	for l.rev = 1; l.rev <= 20; l.rev++ {
		l.write(50, nil)
		r := l.route(configs.DeadLetter)
		w.Swap(l.program(r), r, int64(l.rev))
		l.write(50, nil)
		l.settled()
	}
	w.drain()
	l.once("out", kept)

	revs := map[string]map[int]bool{}
	cl := l.client(kgo.ConsumeTopics("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for ends := 0; ends < labParts; {
		cl.PollFetches(l.ctx()).EachRecord(func(r *kgo.Record) {
			var v struct{ Seq, Rev int }
			if err := json.Unmarshal(r.Value, &v); err != nil {
				t.Fatal(err)
			}
			if v.Seq < 0 {
				ends++
				return
			}
			tx := fmt.Sprint(r.ProducerID, r.ProducerEpoch)
			if revs[tx] == nil {
				revs[tx] = map[int]bool{}
			}
			revs[tx][v.Rev] = true
		})
	}
	seen := map[int]bool{}
	for tx, of := range revs {
		if len(of) != 1 {
			t.Errorf("transaction %s has the programs %v", tx, of)
		}
		for rev := range of {
			seen[rev] = true
		}
	}
	if len(seen) < 20 {
		t.Errorf("only the programs %v were used", seen)
	}
}

// TestExactlyOnceRefusedRecord has records that the target refuses: here the
// brokers say so, which costs an abort each time, and the client library for the
// largest. They are in the dead letters once, and the others in the target.
func TestExactlyOnceRefusedRecord(t *testing.T) {
	l := newLab(t)
	large := func(seq int) bool { return seq%50 == 7 }
	l.write(300, func(seq int, value string) string {
		switch {
		case seq%100 == 57:
			return strings.TrimSuffix(value, "}") + `,"x":"` + strings.Repeat("x", 2<<20) + `"}`
		case large(seq):
			return strings.TrimSuffix(value, "}") + `,"x":"` + strings.Repeat("x", 30_000) + `"}`
		}
		return value
	})
	w := l.start(configs.DeadLetter)
	l.settled()
	w.drain()
	l.once("out", func(seq int) bool { return kept(seq) && !large(seq) })
	l.once("letters", large)
	if c := w.Stats().Total; c.DeadLettered != labParts*6 {
		t.Errorf("%+v", c)
	}
}

// breaking fails the first write, once the dead letters of another lane are on their way,
// and lets those get to the transaction only after it was aborted.
type breaking struct {
	sinks.Transactional
	broke              atomic.Bool
	ended              sync.Once
	lettering, aborted chan struct{}
}

func (b *breaking) Write(ctx context.Context, rs *record.Batch, done func(error)) {
	if b.broke.Swap(true) {
		b.Transactional.Write(ctx, rs, done)
		return
	}
	<-b.lettering
	done(errors.New("not now"))
}

func (b *breaking) Abort(ctx context.Context) error {
	err := b.Transactional.Abort(ctx)
	b.ended.Do(func() { close(b.aborted) })
	return err
}

// TestExactlyOnceLettersBehindAnAbort has dead letters on their way that reach the sink when their
// transaction was aborted, as while their topic is made. Their records are read again, so they are in no transaction that is committed.
func TestExactlyOnceLettersBehindAnAbort(t *testing.T) {
	l := newLab(t)
	b := &breaking{lettering: make(chan struct{}), aborted: make(chan struct{})}
	l.wrap = func(s sinks.Transactional) sinks.Sink { b.Transactional = s; return b }
	var first sync.Once
	l.open = func() {
		first.Do(func() { close(b.lettering) })
		<-b.aborted
	}
	broken := func(seq int) bool { return seq%10 == 5 }
	l.write(100, func(seq int, value string) string {
		if broken(seq) {
			value += "}"
		}
		return value
	})
	w := l.start(configs.DeadLetter)
	l.settled()
	w.drain()
	l.once("letters", broken)
	l.once("out", func(seq int) bool { return kept(seq) && !broken(seq) })
}

// TestExactlyOnceStopsBeforeRefusedRecord wants everything before the record and nothing after it.
func TestExactlyOnceStopsBeforeRefusedRecord(t *testing.T) {
	l := newLab(t)
	l.write(100, func(seq int, value string) string {
		if seq == 60 {
			return strings.TrimSuffix(value, "}") + `,"x":"` + strings.Repeat("x", 30_000) + `"}`
		}
		return value
	})
	w := l.start(configs.StopRoute)
	err := <-w.err
	if !pipeline.IsHalt(err) {
		t.Fatal(err)
	}
	w.balanced()
	l.mark("out")
	got := l.await("out", func(seqs map[int32][]int) bool {
		for p := range int32(labParts) {
			if len(seqs[p]) == 0 || seqs[p][len(seqs[p])-1] != -1 {
				return false
			}
		}
		return true
	})
	stopped := 0
	for p := range int32(labParts) {
		have := got[p][:len(got[p])-1]
		for i, seq := range have {
			if seq >= 60 || i > 0 && seq <= have[i-1] {
				t.Errorf("partition %d: %v", p, have)
				break
			}
		}
		if len(have) == 54 {
			stopped++
		}
	}
	if stopped == 0 {
		t.Errorf("no partition came to the record: %v", got)
	}
}
