package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"keystone/configs/addr"
	sinkkafka "keystone/sinks/kafka"
)

// slots lends the numbers of which transactional ids are made.
//
// Kafka knows a worker that writes exactly once by its transactional id: whoever takes the id
// ends what the one before left open. So two workers that live must never have the same, and a worker
// that starts must have that of one that is dead. The lock on the state directory sees to
// it that one process of an installation lives; within it a route has at most
// two workers at a time, of which one is about to leave. The first worker of a route in a
// process ends what the other number left open, too.
type slots struct {
	mu   sync.Mutex // guards used
	used map[addr.Addr]*[slotsPerRoute]bool
}

const slotsPerRoute = 2

// slot is one number in use.
type slot struct {
	id     string
	others []string // whose workers are dead, and which nobody has ended yet
	free   func()   // gives the number back, once
}

// take lends the lowest number of a route that is free.
func (s *slots) take(stateDir string, route addr.Addr) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := s.used[route]
	first := used == nil
	if first {
		used = &[slotsPerRoute]bool{}
		if s.used == nil {
			s.used = map[addr.Addr]*[slotsPerRoute]bool{}
		}
		s.used[route] = used
	}
	for n := range used {
		if used[n] {
			continue
		}
		used[n] = true
		out := &slot{id: transactionalID(stateDir, route, n)}
		for other := range used {
			if first && other != n {
				out.others = append(out.others, transactionalID(stateDir, route, other))
			}
		}
		out.free = sync.OnceFunc(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			used[n] = false
		})
		return out, nil
	}
	return nil, errors.New("workers of this route that write exactly once have not ended yet")
}

// transactionalID is keystone.INSTALLATION.ROUTE.NUMBER.
func transactionalID(stateDir string, route addr.Addr, n int) string {
	return fmt.Sprintf("keystone.%s.%s.%d", installation(stateDir), route, n)
}

// transaction makes what the sink and the dead letters of a worker write into.
func (p *plant) transaction(ctx context.Context, j job) (*sinkkafka.Transaction, error) {
	to := j.cfg.Streams[j.route.To.Addr]
	if to == nil {
		return nil, errors.New("only a stream can be written exactly once")
	}
	opts, err := p.clientOptions(ctx, j.cfg.ClusterOf(to.Addr))
	if err != nil {
		return nil, err
	}
	return sinkkafka.NewTransaction(sinkkafka.TransactionConfig{
		Client: opts, ID: j.slot.id, Others: j.slot.others,
		Compression: to.Compression, Linger: writeLinger,
	}), nil
}
