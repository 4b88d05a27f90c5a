package client

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Health hears of every attempt to connect. The client library retries
// connecting for ever and in silence; this is how a route learns that its
// cluster is gone.
type Health struct {
	mu     sync.Mutex // guards failed, alive
	failed map[string]failure
	alive  map[string]bool
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
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		h.failed, h.alive = map[string]failure{}, map[string]bool{}
	}
	if err != nil {
		h.failed[addr] = failure{err: fmt.Errorf("broker %s: %w", addr, err), at: time.Now(), seed: meta.NodeID < 0}
		delete(h.alive, addr)
		return
	}
	delete(h.failed, addr)
	h.alive[addr] = true
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
