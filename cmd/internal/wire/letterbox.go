package wire

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline/deadletter"
	"keystone/pipeline/record"
	"keystone/reconcile/store"
	sourcekafka "keystone/sources/kafka"
	"keystone/sources/kafka/admin"
)

// boxed is a dead letter in its place.
type boxed struct {
	id     string         // for people
	mark   store.LetterID // for the marks
	offset int64          // what ends bound
	letter deadletter.Letter
	broken bool // a record or line that is no letter; nothing else counts then
}

// letterBox is one place that dead letters are kept in.
type letterBox struct {
	name  string // the topic or the file
	place string // of the marks: another topic of that name has other letters
	// read calls f with what is there now, within the hint. It gives how far that was, by partition.
	read func(ctx context.Context, h hint, f func(boxed) error) (map[int32]int64, error)
	// cut deletes the oldest letters, as far as all of them are done with, or
	// every one of them, and gives the marks of what is gone.
	cut func(ctx context.Context, done func(boxed) bool) ([]store.LetterID, error)
}

// hint says that only one partition, or one offset of it, is asked for.
type hint struct{ partition, offset *int64 }

// letterMarks keeps what became of letters; see store.Store.
type letterMarks interface {
	MarkLetters(ctx context.Context, place string, ids []store.LetterID, state string, at time.Time) error
	LetterMarks(ctx context.Context, place string) (map[store.LetterID]string, error)
	ForgetLetters(ctx context.Context, place string, ids []store.LetterID) error
}

// letterDesk handles the dead letters of a configuration's routes.
type letterDesk struct {
	plant  *plant
	cfg    *configs.Config        // nil: nothing was stored, and only files are known
	topics func(addr.Addr) string // of streams
	marks  letterMarks            // nil: nothing was marked
}

// names gives the addresses that a route has and had: letters carry the one of their time.
func (d *letterDesk) names(route addr.Addr) []addr.Addr {
	out := []addr.Addr{route}
	if d.cfg == nil {
		return out
	}
	for i := 0; i < len(out) && len(out) < 100; i++ {
		for _, m := range d.cfg.Moved {
			switch {
			case m.To == out[i]:
				out = append(out, m.From)
			case m.To == out[i].Block() && out[i].Each && !m.To.Each:
				out = append(out, m.From.Instance(out[i].Key))
			}
		}
	}
	return out
}

// boxes gives the places of a route's letters that exist: the stream of its
// choice, the managed one, also of earlier names, and the file that `keystone
// run` and routes without a stream write.
func (d *letterDesk) boxes(ctx context.Context, route addr.Addr) ([]letterBox, error) {
	var out []letterBox
	names := d.names(route)
	if d.cfg != nil {
		if r := d.cfg.Routes[route]; r != nil {
			if s := d.cfg.Sinks[r.DeadLetter.Addr]; s != nil {
				return nil, fmt.Errorf("%w: the dead letters of %s go to %s: look for them there", errLettersElsewhere, route, s.Addr)
			}
			if s := d.cfg.Streams[r.DeadLetter.Addr]; s != nil {
				b, err := d.topicBox(ctx, d.cfg.ClusterOf(s.Addr), d.topics(s.Addr))
				if err != nil {
					return nil, err
				}
				out = append(out, b...)
			}
			if from := d.cfg.Streams[r.From.Addr]; from != nil {
				for _, name := range names {
					b, err := d.topicBox(ctx, d.cfg.ClusterOf(from.Addr), d.cfg.DeadLetterTopic(name))
					if err != nil {
						return nil, err
					}
					out = append(out, b...)
				}
			}
		}
	}
	for _, name := range names {
		path := d.plant.letterFile(name)
		if _, err := os.Stat(path); err == nil {
			out = append(out, fileBox(path))
		}
	}
	return out, nil
}

// errLettersElsewhere is letters that no command reads: they are the events of a sink.
var errLettersElsewhere = fmt.Errorf("%w: what a sink has is not read", api.ErrUnsupported)

// topicBox gives the box of a topic, or none: it is made with the first letter.
func (d *letterDesk) topicBox(ctx context.Context, cluster *configs.Cluster, topic string) ([]letterBox, error) {
	if cluster.Embedded && d.plant.joins { // an embedded broker that nobody started has nothing
		if _, err := os.Stat(filepath.Join(d.plant.stateDir, "broker")); err != nil {
			return nil, nil //nolint:nilerr // as said
		}
	}
	adm, err := d.plant.admin(ctx, cluster)
	if err != nil {
		return nil, err
	}
	_, have, err := adm.Observe(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("dead letters in %s: %w", topic, err)
	}
	t := have[topic]
	if t.Err != nil {
		return nil, fmt.Errorf("dead letters in %s: %w", topic, t.Err)
	}
	if !t.Exists {
		return nil, nil
	}
	opts, err := d.plant.clientOptions(ctx, cluster)
	if err != nil {
		return nil, err
	}
	tap := sourcekafka.Tap{Client: opts, Topic: topic, ReadCommitted: true}
	b := letterBox{name: topic, place: t.ID, read: func(ctx context.Context, h hint, f func(boxed) error) (map[int32]int64, error) {
		return readTopic(ctx, tap, h, f)
	}}
	b.cut = func(ctx context.Context, done func(boxed) bool) ([]store.LetterID, error) {
		return cutTopic(ctx, adm, tap, done)
	}
	return []letterBox{b}, nil
}

func readTopic(ctx context.Context, tap sourcekafka.Tap, h hint, f func(boxed) error) (map[int32]int64, error) {
	ends := map[int32]int64{}
	if h.partition != nil {
		tap.Only = []int32{int32(*h.partition)}
		if h.offset != nil {
			tap.From = []record.Position{{Partition: int32(*h.partition), Offset: *h.offset}}
		}
	}
	err := tap.Read(ctx, func(batch *record.Batch) error {
		for i := range batch.Records {
			r := &batch.Records[i]
			if h.offset != nil && h.partition != nil && r.Offset > *h.offset {
				return sourcekafka.ErrStop
			}
			b := boxed{id: fmt.Sprintf("%d:%d", batch.Partition, r.Offset), mark: store.LetterID{Partition: batch.Partition, Offset: r.Offset}, offset: r.Offset}
			var err error
			if b.letter, err = deadletter.Parse(r); err != nil {
				b.broken = true
			}
			ends[batch.Partition] = r.Offset + 1
			if err := f(b); err != nil {
				return err
			}
		}
		return nil
	})
	return ends, err
}

// cutTopic deletes the records before the first one of each partition that is not done with.
func cutTopic(ctx context.Context, adm *admin.Admin, tap sourcekafka.Tap, done func(boxed) bool) ([]store.LetterID, error) {
	before := map[int32]int64{}
	stuck := map[int32]bool{}
	var gone []store.LetterID
	_, err := readTopic(ctx, tap, hint{}, func(b boxed) error {
		p := b.mark.Partition
		if stuck[p] || !done(b) {
			stuck[p] = true
			return nil
		}
		before[p] = b.offset + 1
		gone = append(gone, b.mark)
		return nil
	})
	if err != nil || len(before) == 0 {
		return nil, err
	}
	return gone, adm.DeleteRecords(ctx, tap.Topic, before)
}

// fileBox is a file of letters. Marks go by the bytes of a line, since a purge moves lines.
func fileBox(path string) letterBox {
	at := func(l deadletter.Line) boxed {
		return boxed{id: "file:" + strconv.FormatInt(l.Offset, 10), mark: store.LetterID{Offset: l.Hash}, offset: l.Offset, letter: l.Letter}
	}
	read := func(ctx context.Context, h hint, f func(boxed) error) (map[int32]int64, error) {
		ends := map[int32]int64{}
		broken, err := deadletter.ReadFile(path, func(l deadletter.Line) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			ends[0] = l.Offset + 1
			if h.offset != nil && *h.offset != l.Offset || h.partition != nil && *h.partition != 0 {
				return nil
			}
			return f(at(l))
		})
		for ; broken > 0 && err == nil; broken-- {
			err = f(boxed{broken: true})
		}
		return ends, err
	}
	return letterBox{name: path, place: "file " + filepath.Base(path), read: read, cut: func(_ context.Context, done func(boxed) bool) (gone []store.LetterID, err error) {
		_, err = deadletter.RemoveLines(path, func(l deadletter.Line) bool {
			b := at(l)
			if !done(b) {
				return false
			}
			gone = append(gone, b.mark)
			return true
		})
		return gone, err
	}}
}

// letterPlace names where the dead letters of a route go; "" if it makes none.
func (p *plant) letterPlace(cfg *configs.Config, topics func(*configs.Config) func(addr.Addr) string, route addr.Addr) string {
	if cfg == nil || cfg.Routes[route] == nil || cfg.Routes[route].OnError != configs.DeadLetter {
		return ""
	}
	r := cfg.Routes[route]
	switch {
	case cfg.Streams[r.DeadLetter.Addr] != nil:
		return topics(cfg)(r.DeadLetter.Addr)
	case cfg.Sinks[r.DeadLetter.Addr] != nil:
		return r.DeadLetter.Addr.String()
	case cfg.Streams[r.From.Addr] != nil:
		return cfg.DeadLetterTopic(route)
	}
	return p.letterFile(route)
}

// letterFiles gives the routes that have a file of letters, as the letters say.
func (p *plant) letterFiles() []addr.Addr {
	paths, _ := filepath.Glob(filepath.Join(p.stateDir, "dead-letters", "*.ndjson")) // the pattern is good
	var out []addr.Addr
	for _, path := range paths {
		_, _ = deadletter.ReadFile(path, func(l deadletter.Line) error { // what cannot be read is said where it is asked for
			if a, err := addr.Parse(l.Letter.Route); err == nil {
				out = append(out, a)
			}
			return errEnoughLetters
		})
	}
	return out
}
