package commit

import (
	"fmt"
	"strings"
	"testing"
)

// The protocol of an epoch as a model, small enough to look at every state: two processes of a job, one after the
// other on the same store, where what the first one asked of the broker before it died may still arrive. Each step is one
// that a crash can come before or after.
//
// Source: rows 1..rows. An epoch takes one or two rows and has a chunk for each.

const modelRows = 4

type mistake int // what is left out of the protocol, to see that the model would find it

const (
	none             mistake = iota
	noFence                  // the second process does not take the producer's id
	noMarker                 // recovery does not ask what is published
	markerAside              // the marker is written behind the transaction, not in it
	deleteFirst              // the outbox is deleted before its rows are published
	positionsFirst           // positions are stored before the rows
	markerFromEpochs         // the marker names the epoch without its chunk
)

// chunkID is a chunk of an epoch; its row is the only thing in it.
type chunkID struct{ epoch, chunk, row int }

type process struct {
	up      bool
	pc      string // what it does next
	epoch   int    // of the store as it knows it
	todo    string // chunks that it has to publish, encoded
	fence   int    // the producer epoch that it holds
	pending string // a request of it on its way to the broker
}

type world struct {
	p [2]process
	// The store.
	storeEpoch, position int
	outbox               string
	// The broker.
	fence  int
	log    string // rows that read-committed readers see
	flight string // requests of the dead that may still arrive, as chunks; row 10*fence+row
	marker chunkID
	starts int
}

func enc(cs []chunkID) string {
	var b strings.Builder
	for _, c := range cs {
		fmt.Fprintf(&b, "%d %d %d;", c.epoch, c.chunk, c.row)
	}
	return b.String()
}

func dec(s string) (cs []chunkID) {
	for part := range strings.SplitSeq(s, ";") {
		var c chunkID
		if n, _ := fmt.Sscanf(part, "%d %d %d", &c.epoch, &c.chunk, &c.row); n == 3 {
			cs = append(cs, c)
		}
	}
	return cs
}

func (c chunkID) upTo(m chunkID) bool {
	return c.epoch < m.epoch || c.epoch == m.epoch && c.chunk <= m.chunk
}

// arrive is the broker's part: the end of a transaction with a row and the marker. It refuses a fenced producer.
func (w *world) arrive(c chunkID, fence int, m mistake) bool {
	if fence != w.fence {
		return false
	}
	w.log += fmt.Sprint(c.row)
	if m != markerAside {
		w.marker = c
	}
	if m == markerFromEpochs {
		w.marker.chunk = 9
	}
	return true
}

// next gives all worlds that can follow.
func (w world) next(m mistake) (out []world) {
	add := func(f func(*world)) {
		n := w
		f(&n)
		out = append(out, n)
	}
	for i, c := range dec(w.flight) { // what a dead process asked for arrives
		add(func(n *world) {
			rest := dec(w.flight)
			n.flight = enc(append(rest[:i:i], rest[i+1:]...))
			fence := c.row / 10
			c.row %= 10
			n.arrive(c, fence, m)
		})
	}
	for i := range w.p {
		p := w.p[i]
		if p.pending != "" {
			add(func(n *world) {
				q := &n.p[i]
				q.pending, q.pc = "", "published"
				if !n.arrive(dec(p.pending)[0], p.fence, m) {
					q.up = false
				}
			})
		}
		if p.up {
			add(func(n *world) { // it dies here
				for _, c := range dec(p.pending) {
					c.row += 10 * p.fence
					n.flight += enc([]chunkID{c})
				}
				n.p[i] = process{}
			})
		}
		if !p.up {
			// The store's lock: one process at a time. A dead one may come back.
			if other := w.p[1-i]; !other.up && w.starts < 4 {
				add(func(n *world) {
					n.starts++
					n.p[i] = process{up: true, pc: "fence"}
				})
			}
			continue
		}
		switch p.pc {
		case "fence":
			add(func(n *world) {
				q := &n.p[i]
				if m != noFence || n.fence == 0 {
					n.fence++
				}
				q.fence, q.pc = n.fence, "recover"
			})
		case "recover":
			add(func(n *world) {
				q := &n.p[i]
				q.epoch = n.storeEpoch
				var todo []chunkID
				for _, c := range dec(n.outbox) {
					if m == noMarker || !c.upTo(n.marker) {
						todo = append(todo, c)
					}
				}
				q.todo, q.pc = enc(todo), "publish"
			})
		case "publish":
			todo := dec(p.todo)
			switch {
			case p.pending != "": // it waits for the answer
			case len(todo) > 0:
				add(func(n *world) { n.p[i].pending = enc(todo[:1]) })
			default:
				add(func(n *world) { n.outbox, n.p[i].pc = "", "run" })
			}
		case "published":
			add(func(n *world) {
				q := &n.p[i]
				todo := dec(q.todo)
				if m == markerAside {
					n.marker = todo[0]
				}
				q.todo, q.pc = enc(todo[1:]), "publish"
			})
		case "run":
			for take := 1; take <= 2 && w.position+take <= modelRows; take++ {
				add(func(n *world) {
					q := &n.p[i]
					q.epoch++
					var cs []chunkID
					for k := range take {
						cs = append(cs, chunkID{q.epoch, k, n.position + k + 1})
					}
					q.todo, q.pc = enc(cs), "publish"
					n.position += take
					n.storeEpoch = q.epoch
					switch m {
					case deleteFirst:
					case positionsFirst:
						q.pc = "rows"
					default:
						n.outbox = enc(cs)
					}
				})
			}
		case "rows":
			add(func(n *world) { n.outbox, n.p[i].pc = p.todo, "publish" })
		}
	}
	return out
}

// wrong says what readers see that they should not: a row twice, one left out, or another order.
func (w world) wrong() string {
	const all = "123456789"
	if !strings.HasPrefix(all, w.log) {
		return "readers see rows " + w.log
	}
	for _, p := range w.p {
		if p.up && p.pc == "run" && len(w.log) < w.position {
			return fmt.Sprintf("the source is at %d, nothing is left to publish, and readers see %q", w.position, w.log)
		}
	}
	return ""
}

// explore visits every state and gives the first that is wrong.
func explore(m mistake) (states, complete int, wrong string) {
	seen := map[world]bool{{}: true}
	queue := []world{{}}
	for len(queue) > 0 {
		w := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if s := w.wrong(); s != "" {
			return len(seen), complete, s
		}
		if len(w.log) == modelRows && w.outbox == "" {
			complete++
		}
		for _, n := range w.next(m) {
			if !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		}
	}
	return len(seen), complete, ""
}

// In no interleaving and after no crash do readers see a row twice, miss one that was passed, or see another order; and each part of the
// protocol is needed for that.
func TestModel(t *testing.T) {
	states, complete, wrong := explore(none)
	if wrong != "" || complete == 0 || states < 1000 {
		t.Fatalf("%d states, %d of them complete: %s", states, complete, wrong)
	}
	t.Logf("%d states", states)
	for _, m := range []mistake{noFence, noMarker, markerAside, deleteFirst, positionsFirst, markerFromEpochs} {
		if n, _, wrong := explore(m); wrong == "" {
			t.Errorf("mistake %d is not found in %d states", m, n)
		} else {
			t.Logf("mistake %d: %s", m, wrong)
		}
	}
}
