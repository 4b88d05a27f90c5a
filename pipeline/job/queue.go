package job

import "sync"

// queue is bounded by the bytes of what waits in it: who puts waits for room, so that a slow operator slows its
// senders down and at last the sources. One thing larger than the bound goes in when nothing else is in. The graph
// of operators has no cycle, so waiting has an end.
type queue[T any] struct {
	mu    sync.Mutex // guards what follows
	items []sized[T]
	first int
	bytes int
	limit int
	ended bool
	room  sync.Cond
	some  sync.Cond
}

type sized[T any] struct {
	v    T
	size int
}

func newQueue[T any](limit int) *queue[T] {
	q := &queue[T]{limit: limit}
	q.room.L, q.some.L = &q.mu, &q.mu
	return q
}

// put waits for room; false says that the queue was ended and v is not in it.
func (q *queue[T]) put(v T, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.ended && q.bytes > 0 && q.bytes+size > q.limit {
		q.room.Wait()
	}
	return q.add(v, size)
}

// force does not wait for room. It is for words of a few bytes.
func (q *queue[T]) force(v T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.add(v, 0)
}

func (q *queue[T]) add(v T, size int) bool {
	if q.ended {
		return false
	}
	q.items = append(q.items, sized[T]{v, size})
	q.bytes += size
	q.some.Signal()
	return true
}

// take waits for something; false says that the queue was ended.
func (q *queue[T]) take() (v T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.ended && q.first == len(q.items) {
		q.some.Wait()
	}
	if q.ended {
		return v, false
	}
	it := q.items[q.first]
	q.items[q.first] = sized[T]{}
	if q.first++; q.first == len(q.items) {
		q.items, q.first = q.items[:0], 0
	} else if q.first > 64 && q.first*2 > len(q.items) {
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	if q.bytes -= it.size; it.size > 0 {
		q.room.Broadcast()
	}
	return it.v, true
}

// end wakes everybody up: nothing goes in or out any more.
func (q *queue[T]) end() {
	q.mu.Lock()
	q.ended = true
	q.room.Broadcast()
	q.some.Broadcast()
	q.mu.Unlock()
}

// fill tells how full the queue is, from 0 to 1.
func (q *queue[T]) fill() float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return min(1, float64(q.bytes)/float64(q.limit))
}
