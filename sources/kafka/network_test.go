package kafka_test

import (
	"context"
	"errors"
	"net"
	"sync"
)

// wire is one client's network, which can be cut.
type wire struct {
	dial func(ctx context.Context, network, host string) (net.Conn, error)

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (w *wire) Dial(ctx context.Context, network, host string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil, errors.New("the network is down")
	}
	c, err := w.dial(ctx, network, host)
	if err == nil {
		w.conns = append(w.conns, c)
	}
	return c, err
}

func (w *wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}
