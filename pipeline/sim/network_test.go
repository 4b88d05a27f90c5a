//go:build synctests

package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/pipeline"
)

// link is the network of one process: all its connections to brokers.
type link struct {
	w       *world
	name    string
	rewinds int // before the process began
	worker  *pipeline.Worker

	mu      sync.Mutex // guards everything below
	dead    bool       // the process is gone: nothing of it moves any more
	down    bool       // connections are refused
	thaw    chan struct{}
	conns   map[*conn]struct{}
	dials   map[string]int
	rules   []*rule
	frozen  bool
	id      string          // the member of the group that the process believes to be
	forgot  bool            // the group has given it up meanwhile
	kept    map[int32]int64 // partitions of the time before, and how far they were read when the group gave it up
	trouble int             // oracle.marks when the process lost touch with the group; 0: it has not
}

// rule is what befalls the next message of one kind.
type rule struct {
	key   kmsg.Key
	what  ruleKind
	delay time.Duration
}

type ruleKind int

// The rules.
const (
	dropRequest  ruleKind = iota // the connection ends before the broker sees it
	dropResponse                 // the broker has done it, and the connection ends
	delayMessage
)

func newLink(w *world, name string) *link {
	return &link{w: w, name: name, rewinds: w.o.rewinds(), conns: map[*conn]struct{}{}, dials: map[string]int{}, thaw: closed()}
}

func closed() chan struct{} { c := make(chan struct{}); close(c); return c }

// errNetwork is what an operating system says: the library knows it by its type.
var errNetwork error = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

// Dial connects through the link.
func (l *link) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	thaw, gone := l.thaw, l.dead || l.down
	n := l.dials[addr]
	l.dials[addr]++
	l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if gone {
		return nil, errNetwork
	}
	select {
	case <-thaw:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	server, err := l.w.vn.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	client, proxy := net.Pipe()
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s %d", l.name, addr, n)
	c := &conn{l: l, server: server, proxy: proxy, end: make(chan struct{}),
		up: rand.New(rand.NewPCG(l.w.seed, h.Sum64())), down: rand.New(rand.NewPCG(l.w.seed, h.Sum64()+1))}
	c.late = c.up.IntN(2) == 0
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead || l.down {
		_, _ = server.Close(), client.Close()
		return nil, errNetwork
	}
	l.conns[c] = struct{}{}
	l.w.work.Go(c.pumpUp)
	l.w.work.Go(c.pumpDown)
	return client, nil
}

// freeze holds every message back until unfreeze: a process that is stopped, or a
// network that swallows packets.
func (l *link) freeze() {
	l.troubled()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.frozen {
		l.frozen, l.thaw = true, make(chan struct{})
	}
}

func (l *link) unfreeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen {
		l.frozen = false
		close(l.thaw)
	}
}

// cut ends all connections.
func (l *link) cut() {
	l.troubled()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutLocked()
}

func (l *link) cutLocked() {
	for c := range l.conns {
		c.close()
	}
	clear(l.conns)
}

// setDown has connections refused, or not any more.
func (l *link) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down = down; down {
		l.cutLocked()
	}
}

// kill ends the process's network for ever.
func (l *link) kill() {
	l.unfreeze()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	l.cutLocked()
}

func (l *link) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// wait holds a message back while the link is frozen; false: its connection ended.
func (l *link) wait(end chan struct{}) bool {
	l.mu.Lock()
	thaw := l.thaw
	l.mu.Unlock()
	select {
	case <-thaw:
	case <-end:
		return false
	}
	select {
	case <-end:
		return false
	default:
		return true
	}
}

// add gives the next message of a kind a rule.
func (l *link) add(r *rule) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rules = append(l.rules, r)
}

// member notes as whom the process knows itself in the group; empty: it has left, or was told.
func (l *link) member(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id, l.forgot = id, false
}

// believes gives the member that a living process believes to be.
func (l *link) believes() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return ""
	}
	return l.id
}

// take finds a rule for a message and uses it up.
func (l *link) take(key kmsg.Key, response bool) *rule {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range l.rules {
		if r.key == key && response == (r.what == dropResponse) {
			l.rules = append(l.rules[:i], l.rules[i+1:]...)
			return r
		}
	}
	return nil
}

// clearRules forgets what has not happened yet.
func (l *link) clearRules() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rules = nil
}

// conn is one connection of a process to a broker.
type conn struct {
	l             *link
	server, proxy net.Conn
	end           chan struct{}
	once          sync.Once
	up, down      *rand.Rand
	late          bool // what was on its way when the process died arrives

	mu    sync.Mutex // guards asked
	asked []*message // requests whose answers are to come
}

// message is a request and what the oracle wants to know of it.
type message struct {
	key     kmsg.Key
	version int16
	req     kmsg.Request // where the oracle looks at it
	seen    any          // the oracle's own, from request to response
}

// close ends the connection for the process. The broker notices when it has
// answered what it was asked: a host that vanishes says nothing, and a member whose
// connection kfake saw end while it was joining would stay in the group for ever.
func (c *conn) close() {
	c.once.Do(func() {
		close(c.end)
		_ = c.proxy.Close()
	})
	c.settle()
}

func (c *conn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended() && len(c.asked) == 0 {
		_ = c.server.Close()
	}
}

func (c *conn) ended() bool {
	select {
	case <-c.end:
		return true
	default:
		return false
	}
}

// latency draws how long a message takes.
func latency(r *rand.Rand) time.Duration {
	d := 50_000 + r.Int64N(2_000_000)
	if r.IntN(50) == 0 {
		d += r.Int64N(300_000_000)
	}
	return time.Duration(d)
}

func readFrame(c net.Conn) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, 4+binary.BigEndian.Uint32(size[:]))
	copy(frame, size[:])
	_, err := io.ReadFull(c, frame[4:])
	return frame, err
}

// pass waits until a message arrives; false: it never does.
func (c *conn) pass(r *rand.Rand, key kmsg.Key, response bool) bool {
	rule := c.l.take(key, response)
	d := latency(r)
	if rule != nil {
		c.l.w.fault(rule.what.String(), "%s %s", c.l.name, key.Name())
		c.l.troubled()
		if rule.what != delayMessage {
			return false
		}
		d += rule.delay
	}
	time.Sleep(d)
	if rule != nil {
		c.l.w.mark() // it may find the world changed
	}
	return c.l.wait(c.end)
}

func (k ruleKind) String() string {
	return [...]string{"request dropped", "response dropped", "message delayed"}[k]
}

func (c *conn) pumpUp() {
	defer c.close()
	for {
		frame, err := readFrame(c.proxy)
		if err != nil {
			return
		}
		m := parseRequest(frame)
		// What was on its way when a process died may still arrive.
		if !c.pass(c.up, m.key, false) && !(c.late && c.l.isDead()) {
			return
		}
		c.l.w.trace("%s -> %s", c.l.name, m.key.Name())
		c.l.w.request(c.l, m)
		c.mu.Lock()
		c.asked = append(c.asked, m)
		c.mu.Unlock()
		if _, err := c.server.Write(frame); err != nil {
			return
		}
	}
}

func (c *conn) pumpDown() {
	defer func() { _ = c.server.Close() }()
	for {
		frame, err := readFrame(c.server)
		if err != nil {
			c.close()
			return
		}
		c.mu.Lock()
		m := c.asked[0]
		c.asked = c.asked[1:]
		c.mu.Unlock()
		c.l.w.response(c.l, m, frame)
		if c.ended() || !c.pass(c.down, m.key, true) {
			c.close()
			continue
		}
		c.l.w.trace("%s <- %s", c.l.name, m.key.Name())
		c.l.w.heard(c.l, m, frame)
		if _, err := c.proxy.Write(frame); err != nil {
			c.close()
		}
	}
}

// watched are the requests that the oracle looks into.
var watched = map[kmsg.Key]bool{kmsg.JoinGroup: true, kmsg.SyncGroup: true, kmsg.Heartbeat: true, kmsg.OffsetFetch: true, kmsg.Produce: true, kmsg.OffsetCommit: true, kmsg.TxnOffsetCommit: true, kmsg.EndTxn: true}

func parseRequest(frame []byte) *message {
	r := kbin.Reader{Src: frame[4:]}
	m := &message{key: kmsg.Key(r.Int16())}
	m.version = r.Int16()
	if !watched[m.key] {
		return m
	}
	_ = r.Int32()
	_ = r.NullableString()
	req := kmsg.RequestForKey(int16(m.key))
	req.SetVersion(m.version)
	if req.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := req.ReadFrom(r.Src); err != nil {
		panic(fmt.Sprintf("sim: %s v%d: %v", m.key.Name(), m.version, err))
	}
	m.req = req
	return m
}

func parseResponse(m *message, frame []byte) kmsg.Response {
	resp := m.req.ResponseKind()
	resp.SetVersion(m.version)
	r := kbin.Reader{Src: frame[8:]}
	if resp.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := resp.ReadFrom(r.Src); err != nil {
		panic(fmt.Sprintf("sim: answer to %s v%d: %v", m.key.Name(), m.version, err))
	}
	return resp
}
