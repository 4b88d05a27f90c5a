//go:build synctests

package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/eval"
	"keystone/pipeline"
	"keystone/pipeline/deadletter"
	"keystone/sinks"
	sinkkafka "keystone/sinks/kafka"
	"keystone/sources"
	sourcekafka "keystone/sources/kafka"
	"keystone/sources/kafka/client"
)

// member is one place in the route's group, and the process that fills it.
type member struct {
	w      *world
	name   string
	wanted bool
	cur    *process // nil while nobody fills it
	lives  int
	again  time.Time // when the supervisor starts it next
}

// process is one incarnation of a member.
type process struct {
	m       *member
	name    string
	link    *link
	worker  *pipeline.Worker
	cancel  context.CancelFunc
	ended   chan error
	leaving bool
}

// filters are the programs between which a route swaps.
var filters = []string{`kind != "f" && kind != "s"`, `kind != "f"`}

func compile(filter string) *eval.Program {
	checked, diags := dsl.CheckRoute(dsl.RouteSpec{Filter: []diag.Text{{S: filter}}})
	if diags.HasErrors() {
		panic(diags.Err())
	}
	p, err := dsl.Compile(checked)
	if err != nil {
		panic(err)
	}
	return p
}

// route is the configuration that all workers run.
func (s *scenario) route() *configs.Route {
	return &configs.Route{
		Addr: addr.New("route", "sim"), From: spec.Ref{Addr: addr.New("stream", "in")}, To: spec.Ref{Addr: addr.New("stream", "out")},
		Order: s.order, OnError: configs.DeadLetter, Parallelism: s.parallel,
		Delivery: configs.Delivery{Guarantee: s.guarantee, DrainTimeout: 8 * time.Second, CommitInterval: s.interval},
		Retry:    configs.Retry{Initial: 20 * time.Millisecond, Max: time.Second},
		Limits:   configs.Limits{MaxInFlightBytes: s.inFlight},
	}
}

// rebalanceTimeout is how long the group waits for its members to join.
const rebalanceTimeout = 15 * time.Second

// maxMessage is what the sink's topic takes; refused records are larger.
const maxMessage = 4096

func (m *member) start() {
	w, s := m.w, m.w.s
	m.lives++
	p := &process{m: m, name: fmt.Sprintf("%s.%d", m.name, m.lives), ended: make(chan error, 1)}
	p.link = newLink(w, p.name)
	log := w.logger(p.name)
	o := client.Options{Brokers: w.cluster.ListenAddrs(), Dial: p.link.Dial}
	if *clientFlag {
		o.Log = log
	}
	src := sourcekafka.Config{
		Client: o, Topic: "in", Group: w.o.group, ReadCommitted: true, BatchRecords: s.batch, Linger: 50 * time.Millisecond, FetchWait: time.Second,
		SessionTimeout: s.session, RebalanceTimeout: rebalanceTimeout, RevokeTimeout: 7 * time.Second,
	}
	if s.static {
		src.Instance = m.name
	}
	source, err := src.New(sources.Deps{Route: "route.sim", Log: log})
	if err != nil {
		panic(err)
	}
	var tx *sinkkafka.Transaction
	if s.guarantee == configs.ExactlyOnce {
		tx = sinkkafka.NewTransaction(sinkkafka.TransactionConfig{Client: o, ID: "keystone.sim." + m.name, Linger: 2 * time.Millisecond})
	}
	p.worker = pipeline.New(pipeline.Spec{
		Route: s.route(), Program: w.programs[w.revision%2], Revision: int64(w.revision), Source: giving{source.(*sourcekafka.Source), p}, Log: log,
		Sink: w.newSink(p.link, o, s.sink, "out", w.dest, tx),
		DeadLetters: deadletter.NewStream(func() (sinks.Sink, error) {
			if tx != nil {
				time.Sleep(time.Duration(s.seed%3) * time.Second) // as while the topic is made
			}
			return w.newSink(p.link, o, s.letters, "letters", w.letters, tx), nil
		}),
	})
	p.link.worker = p.worker
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	m.cur = p
	w.trace("%s starts", p.name)
	if m.lives == 1 && w.seed%3 == 0 {
		p.link.add(foundingFault(w.seed, m.name, s.session))
	}
	w.mu.Lock()
	w.running = append(w.running, p.worker)
	w.wires = append(w.wires, p.link)
	w.mu.Unlock()
	w.work.Go(func() {
		err := p.worker.Run(ctx)
		st := p.worker.Stats()
		w.mu.Lock()
		w.running = slices.DeleteFunc(w.running, func(x *pipeline.Worker) bool { return x == p.worker })
		w.wires = slices.DeleteFunc(w.wires, func(x *link) bool { return x == p.link })
		w.mu.Unlock()
		w.o.ended(p.name, &st)
		w.trace("%s ended: %v", p.name, err)
		p.ended <- err
	})
}

// foundingFault befalls a message by which a group begins. It is drawn apart from the others.
func foundingFault(seed uint64, name string, session time.Duration) *rule {
	h := fnv.New64a()
	h.Write([]byte(name))
	rng := rand.New(rand.NewPCG(seed, h.Sum64()))
	return &rule{
		key:   pick(rng, kmsg.OffsetCommit, kmsg.OffsetCommit, kmsg.OffsetCommit, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.LeaveGroup, kmsg.OffsetFetch),
		what:  pick(rng, dropRequest, dropResponse, delayMessage, delayMessage),
		delay: draw(rng, pick(rng, session/2, 2*session, time.Minute)),
	}
}

// newSink makes a sink to a topic or a destination.
func (w *world) newSink(l *link, o client.Options, k sinkKind, topic string, d *destination, tx *sinkkafka.Transaction) sinks.Sink {
	switch k {
	case toChained:
		return newChained(w, l)
	case toScripted:
		return newScripted(w, l, d, w.s.order != configs.OrderNone, false)
	case toOrdered:
		return ordered{newScripted(w, l, d, true, true)}
	}
	c := sinkkafka.Config{Client: o, Pool: client.NewPool(), Topic: topic, Linger: 2 * time.Millisecond, Origin: true, Transaction: tx, Owns: topic == "out"}
	if topic == "out" {
		c.BatchBytes = maxMessage
	}
	s, err := c.New(sinks.Deps{Route: "route.sim"})
	if err != nil {
		panic(err)
	}
	return s
}

// drain has the process end in good order.
func (p *process) drain() {
	if p.leaving {
		return
	}
	p.leaving = true
	p.m.w.work.Go(func() { _ = p.worker.Drain(context.Background()) })
}

// crash ends the process at once. Its goroutines go on in a world that they cannot reach.
func (p *process) crash() {
	p.m.w.mark()
	p.m.w.late(p, p.link.parts())
	p.link.kill()
	p.cancel()
	p.m.cur = nil
	p.m.w.ghosts = append(p.m.w.ghosts, p)
}

// supervise starts what is wanted and not there, as the control plane does.
func (w *world) supervise() {
	for _, m := range w.members {
		if m.cur != nil {
			select {
			case err := <-m.cur.ended:
				if err != nil {
					w.note(fmt.Sprintf("%s: %v", m.cur.name, err))
				}
				m.cur.link.kill()
				m.cur, m.again = nil, time.Now().Add(time.Second)
			default:
			}
		}
		if m.cur == nil && m.wanted && !time.Now().Before(m.again) {
			m.start()
		}
	}
}
