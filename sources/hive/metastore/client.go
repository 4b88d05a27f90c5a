// Package metastore speaks to a Hive Metastore: the databases, external
// tables and partitions that Hive, Spark and Trino find files by. The protocol
// is the metastore's own, Thrift's binary protocol without framing
// (hive_metastore.thrift of Apache Hive 3).
package metastore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	hms "github.com/beltran/gohive/hive_metastore"
)

// Client asks one metastore, which may have several addresses. It connects when it is used first, keeps a few connections, and
// is for several goroutines.
type Client struct {
	addrs   []string
	timeout time.Duration

	mu   sync.Mutex // guards what follows; no I/O under it
	idle []*conn
	next int // address to try first
}

// idleMost is how many connections are kept for later: each takes a thread of the metastore.
const idleMost = 4

type conn struct {
	transport thrift.TTransport
	*hms.ThriftHiveMetastoreClient
}

// New makes a client of "thrift://HOST:PORT", or several of them with commas
// between, that are tried in turn. It does no I/O. timeout bounds each call.
func New(address string, timeout time.Duration) (*Client, error) {
	c := &Client{timeout: timeout}
	for _, a := range strings.Split(address, ",") {
		u, err := url.Parse(strings.TrimSpace(a))
		switch {
		case err != nil || u.Scheme != "thrift" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.User != nil:
			return nil, fmt.Errorf("%q is not the address of a metastore; write thrift://HOST:PORT", a)
		case u.Port() == "":
			c.addrs = append(c.addrs, u.Hostname()+":9083")
		default:
			c.addrs = append(c.addrs, u.Host)
		}
	}
	return c, nil
}

// Close ends idle connections.
func (c *Client) Close() error {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	var errs []error
	for _, x := range idle {
		errs = append(errs, x.transport.Close())
	}
	return errors.Join(errs...)
}

// RefusedError is a metastore's answer that it will not do what it was asked;
// asking again does not help. Other errors are *AwayError.
type RefusedError struct {
	What string // was asked
	Err  error
}

// Error gives the metastore's own words.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the metastore refuses to %s: %s", e.What, words(e.Err))
}

// Unwrap gives the metastore's exception.
func (e *RefusedError) Unwrap() error { return e.Err }

// AwayError is a metastore that does not answer, or a connection to it that broke: whether what was asked
// took effect is not known.
type AwayError struct{ err error }

// Error says what was asked, and what of the network failed.
func (e *AwayError) Error() string { return e.err.Error() }

// Unwrap gives the network's error.
func (e *AwayError) Unwrap() error { return e.err }

func away(format string, a ...any) error { return &AwayError{fmt.Errorf(format, a...)} }

// words gives the message of an exception without the names of classes around it.
func words(err error) string {
	if m, ok := err.(interface{ GetMessage() string }); ok && m.GetMessage() != "" {
		return m.GetMessage()
	}
	return err.Error()
}

// call runs f on a connection. Where an idle one turns out to be dead, or an
// address does not answer, it goes on with the next: whatever is done must be idempotent.
func (c *Client) call(ctx context.Context, what string, f func(context.Context, *conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for {
		x, kept, err := c.take()
		if err != nil {
			return away("%s: no metastore answers: %w", what, err)
		}
		stop := context.AfterFunc(ctx, func() { _ = x.transport.Close() }) // Thrift looks at ctx only between reads
		err = f(ctx, x)
		if !stop() {
			return away("%s: the metastore does not answer: %w", what, context.Cause(ctx))
		}
		if refused, broken := judge(err); !broken {
			c.keep(x)
			if refused != nil {
				return &RefusedError{what, refused}
			}
			return nil
		}
		_ = x.transport.Close() // it is broken already
		if !kept || ctx.Err() != nil {
			return away("%s: %w", what, err)
		}
	}
}

// judge tells an exception of the metastore from a connection that broke.
func judge(err error) (refused error, broken bool) {
	var protocol thrift.TProtocolException
	var transport thrift.TTransportException
	switch {
	case err == nil:
		return nil, false
	case errors.As(err, &protocol), errors.As(err, &transport):
		return nil, true
	}
	var ours thrift.TException
	if errors.As(err, &ours) {
		return err, false
	}
	return nil, true
}

// take gives a connection; kept tells that it was idle, and so may be dead.
func (c *Client) take() (x *conn, kept bool, err error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		x, c.idle = c.idle[n-1], c.idle[:n-1]
	}
	first := c.next
	c.mu.Unlock()
	if x != nil {
		return x, true, nil
	}
	for i := range c.addrs {
		at := (first + i) % len(c.addrs)
		x, e := c.dial(c.addrs[at])
		if e == nil {
			c.mu.Lock()
			c.next = at
			c.mu.Unlock()
			return x, false, nil
		}
		err = errors.Join(err, e)
	}
	return nil, false, err
}

func (c *Client) dial(addr string) (*conn, error) {
	limits := &thrift.TConfiguration{ConnectTimeout: min(c.timeout, 5*time.Second), SocketTimeout: c.timeout}
	t := thrift.NewTBufferedTransport(thrift.NewTSocketConf(addr, limits), 64<<10)
	if err := t.Open(); err != nil {
		return nil, fmt.Errorf("connect to the metastore at %s: %w", addr, err)
	}
	p := thrift.NewTBinaryProtocolConf(t, limits)
	return &conn{t, hms.NewThriftHiveMetastoreClient(thrift.NewTStandardClient(p, p))}, nil
}

func (c *Client) keep(x *conn) {
	c.mu.Lock()
	full := len(c.idle) >= idleMost
	if !full {
		c.idle = append(c.idle, x)
	}
	c.mu.Unlock()
	if full {
		_ = x.transport.Close() // nothing is on its way
	}
}
