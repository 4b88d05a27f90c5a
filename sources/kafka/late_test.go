package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/sources"
	"keystone/sources/kafka/client"
)

// limbo is the network of a process that dies: it holds the first request of a kind back, and from
// then on nothing of the process arrives but that request, when deliver is called.
type limbo struct {
	key  kmsg.Key
	dial func(ctx context.Context, network, host string) (net.Conn, error)
	held chan struct{} // closed when the request is held

	mu    sync.Mutex
	conn  net.Conn // on which frame is to go
	frame []byte
}

func newLimbo(key kmsg.Key) *limbo {
	return &limbo{key: key, dial: (&net.Dialer{}).DialContext, held: make(chan struct{})}
}

func (l *limbo) Dial(ctx context.Context, network, host string) (net.Conn, error) {
	select {
	case <-l.held:
		return nil, errors.New("the process is dead")
	default:
	}
	c, err := l.dial(ctx, network, host)
	if err != nil {
		return nil, err
	}
	return &limboConn{Conn: c, l: l}, nil
}

// deliver lets the request arrive, and waits for what the broker says.
func (l *limbo) deliver(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.conn.Write(l.frame); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(l.conn, make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	_ = l.conn.Close()
}

type limboConn struct {
	net.Conn
	l *limbo
}

// Write takes whole requests: the library writes them in one piece.
func (c *limboConn) Write(b []byte) (int, error) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	switch {
	case c.l.conn != nil: // dead
	case len(b) > 6 && kmsg.Key(binary.BigEndian.Uint16(b[4:])) == c.l.key:
		c.l.conn, c.l.frame = c.Conn, append([]byte(nil), b...)
		close(c.l.held)
	default:
		return c.Conn.Write(b)
	}
	return len(b), nil
}

// Close leaves the connection of what is held open.
func (c *limboConn) Close() error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if c.Conn == c.l.conn {
		return c.SetReadDeadline(time.Now())
	}
	return c.Conn.Close()
}

// A worker commits where its group begins and dies, and the network holds that back. Another
// begins the group, reads, commits and leaves. What arrives then moves nothing.
func testFirstOffsetsHeldBack(t *testing.T, o client.Options) {
	name, a := topic(t, o, 2, nil)
	produce(t, o, name, parts(2), 0, 100)
	conf := patientConfig(o, name)
	conf.Instance = "mine"
	l := newLimbo(kmsg.OffsetCommit)
	dead := conf
	dead.Client.Dial = l.Dial
	src, err := dead.New(sources.Deps{Route: "dead"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, kill := context.WithCancel(within(t))
	opened := make(chan error, 1)
	go func() { opened <- src.Open(ctx, nil, &member{t: t, changed: make(chan struct{}, 1)}) }()
	select {
	case <-l.held:
	case err := <-opened:
		t.Fatalf("it opened without a commit: %v", err)
	}
	kill()
	if err := <-opened; err == nil {
		t.Fatal("it opened although it was killed")
	}
	_ = src.Close(ctx)

	or := newOracle()
	m := start(t, conf, "m", or)
	m.await("the ends", func() bool { return m.read[0].Offset == 100 && m.read[1].Offset == 100 })
	m.close()
	l.deliver(t)
	gs, err := a.Groups(within(t), conf.Group)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range gs[conf.Group].Committed[name] {
		if p.Offset != 100 {
			t.Errorf("partition %d is committed at %d, want 100", p.Partition, p.Offset)
		}
	}
	m = start(t, conf, "m", or)
	produce(t, o, name, parts(2), 100, 150)
	or.await(t, 300)
	m.close()
	or.check(t, parts(2), 0, 150)
	if or.repeats != 0 {
		t.Errorf("%d records were read twice", or.repeats)
	}
}
