package client

import (
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Health hears of every attempt to connect. The client library retries
// connecting for ever and in silence; this is how a route learns that its
// cluster is gone.
type Health struct {
	mu     sync.Mutex // guards failed
	failed map[string]error
	alive  map[string]bool
}

// OnBrokerConnect is called by the client library after each attempt.
func (h *Health) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	addr := net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		h.failed, h.alive = map[string]error{}, map[string]bool{}
	}
	if err != nil {
		h.failed[addr] = err
		delete(h.alive, addr)
		return
	}
	delete(h.failed, addr)
	h.alive[addr] = true
}

// Err gives why no broker answers, or nil while at least one of those tried
// last did.
func (h *Health) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.alive) > 0 {
		return nil
	}
	for _, err := range h.failed {
		return err
	}
	return nil
}
