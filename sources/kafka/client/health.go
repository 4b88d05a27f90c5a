package client

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Health hears of every attempt to connect, and of every answer. The client
// library retries both for ever and in silence; this is how a route learns that its
// cluster is gone, be it that connections are refused or that nobody answers on them.
type Health struct {
	mu     sync.Mutex // guards everything below
	failed map[string]failure
	alive  map[string]bool
	since  time.Time // of the first failure after the last answer
}

type failure struct {
	err  error
	at   time.Time
	seed bool // it is only where the cluster is asked for its brokers
}

// recent is how long a failure counts: the library tries again within seconds
// for as long as it needs the broker.
const recent = 20 * time.Second

// OnBrokerConnect is called by the client library after each attempt.
func (h *Health) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	addr := net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
	if err != nil {
		h.fail(addr, meta, err)
	}
}

// OnBrokerRead is called by the client library after each answer, or what should have been
// one. Only an answer shows that a broker is there: a network that swallows everything takes connections,
// too. Of errors only those count that came after waiting in vain: idle connections
// are closed all the time, and whether another can be made is heard of next.
func (h *Health) OnBrokerRead(meta kgo.BrokerMetadata, _ int16, _ int, _, _ time.Duration, err error) {
	addr := net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			h.fail(addr, meta, fmt.Errorf("no answer: %w", err))
		}
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since = time.Time{}
	delete(h.failed, addr)
	if h.alive == nil {
		h.alive = map[string]bool{}
	}
	h.alive[addr] = true
}

func (h *Health) fail(addr string, meta kgo.BrokerMetadata, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		h.failed = map[string]failure{}
	}
	now := time.Now()
	h.failed[addr] = failure{err: fmt.Errorf("broker %s: %w", addr, err), at: now, seed: meta.NodeID < 0}
	delete(h.alive, addr)
	if h.since.IsZero() {
		h.since = now
	}
}

// Since tells since when no broker has answered, zero while one does.
func (h *Health) Since() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.alive) > 0 {
		return time.Time{}
	}
	return h.since
}

// Err gives why a broker that is needed does not answer, or nil. While any
// broker answers, seeds do not count: one that is down hurts nobody.
func (h *Health) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var last failure
	for _, f := range h.failed {
		if len(h.alive) > 0 && (f.seed || time.Since(f.at) > recent) {
			continue
		}
		if f.at.After(last.at) {
			last = f
		}
	}
	return last.err
}

// Because adds to err why no broker answers, where err does not say so itself:
// what the library returns is often only that time is up.
func (h *Health) Because(err error) error {
	why := h.Err()
	if why == nil || Refused(err) || errors.Is(err, why) || errors.Is(why, err) || strings.Contains(err.Error(), dialing) {
		return err
	}
	return fmt.Errorf("%w: %w", err, why)
}

// dialing is how the library words that it cannot connect. Only texts hang on it, no decision.
const dialing = "unable to dial"
