package chain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"keystone/pipeline/record"
	"keystone/sources/hive/storage"
)

// ErrFenced says that somebody else has continued the chain: what this writer wants to commit begins
// where another commit began.
var ErrFenced = errors.New("another writer has continued the chain of commits")

// GapError is a chain that ends before what can be read begins.
type GapError struct {
	Key  Key
	End  int64 // of the chain
	From int64 // where the source would begin
}

// Error says what is missing.
func (e *GapError) Error() string {
	return fmt.Sprintf("the commits in %s end at offset %d, and reading would go on at %d: the records between would be missing from the table", e.Key, e.End, e.From)
}

// Chain is the end of a chain, as its writer knows it. It is for one goroutine at a time.
type Chain struct {
	st     storage.Store
	key    Key
	dir    string
	writer string

	end  record.Position
	tail []int64   // the first offsets of the manifests that are not folded, in order
	last *Manifest // whose files may not be published; nil if all are

	sealed int64 // the generation that has ended the chain; 0: none has
	moves  bool  // partitions may be compacted
}

// Moves has Publish look where compacted partitions are. Without it they are in their own folders.
func (c *Chain) Moves() { c.moves = true }

// Open finds the end of a chain, and begins one at from where there is none. writer tells this writer from
// all others. Where the last commit's files may not be published, Last gives it. seen is given the
// commits that are not folded, in order, perhaps repeatedly; it may be nil.
func Open(ctx context.Context, st storage.Store, key Key, from record.Position, writer string, seen func(*Manifest)) (*Chain, error) {
	c := &Chain{st: st, key: key, dir: key.String() + "/", writer: writer}
	began, err := c.begin(ctx, from)
	if err != nil {
		return nil, err
	}
	for range attempts {
		again, err := c.follow(ctx, began, seen)
		if err != nil {
			return nil, err
		}
		if again {
			continue
		}
		if c.sealed != 0 {
			return nil, fmt.Errorf("%w: generation %d has sealed %s at offset %d", ErrFenced, c.sealed, key, c.end.Offset)
		}
		// A: makes a manifest, and dies before its name is on disk. B: sees it, and publishes its files,
		// which are on disk. The power fails: the files are there, and nothing says so. So B sees to the names first.
		seen := "start"
		if n := len(c.tail); n > 0 {
			seen = offsetName(c.tail[n-1])
		}
		if err := st.Confirm(ctx, c.dir+seen); err != nil {
			return nil, err
		}
		return c, nil
	}
	return nil, fmt.Errorf("%s changes faster than it can be read", key)
}

// attempts is how often a chain is looked at anew when it was folded meanwhile.
const attempts = 5

// begin gives where the chain begins. Of two that begin it the first one says where.
func (c *Chain) begin(ctx context.Context, from record.Position) (record.Position, error) {
	name := c.dir + "start"
	for {
		at, err := readStart(ctx, c.st, name)
		if !errors.Is(err, storage.ErrNotExist) {
			return at, err
		}
		s := start{manifestVersion, keyJSON(c.key), from, time.Now().UTC()}
		text, err := json.Marshal(s)
		if err != nil {
			return at, err
		}
		if err := c.st.Create(ctx, name, text); err == nil {
			return from, nil
		} else if !errors.Is(err, storage.ErrExists) {
			return at, err
		}
	}
}

func readStart(ctx context.Context, st storage.Store, name string) (record.Position, error) {
	b, err := st.Get(ctx, name)
	if err != nil {
		return record.Position{}, err
	}
	var s start
	err = decode(name, b, &s, &s.Version)
	return s.At, err
}

// follow reads from a position to the end. What was folded is skipped unread, since a fold's name
// tells where it ends. again says that something was folded since it was listed.
func (c *Chain) follow(ctx context.Context, at record.Position, seen func(*Manifest)) (again bool, err error) {
	manifests, folds, err := list(ctx, c.st, c.dir)
	if err != nil {
		return false, err
	}
	c.end, c.tail, c.last, c.sealed = at, nil, nil, 0
	folded := ""
	for f, ok := folds[at.Offset]; ok; f, ok = folds[f.next] {
		c.end.Offset, c.end.LeaderEpoch, folded = f.next, -1, f.name
	}
	found, err := fetch(ctx, c.st, manifests, c.end.Offset)
	if errors.Is(err, storage.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if found[c.end.Offset] == nil && folded != "" { // the whole position is in the fold
		all, err := readFold(ctx, c.st, folded)
		if err != nil {
			return false, err
		}
		c.end = all[len(all)-1].Next
	}
	for m := found[c.end.Offset]; m != nil; m = found[c.end.Offset] {
		if c.sealed = m.Sealed; c.sealed != 0 {
			break
		}
		if seen != nil {
			seen(m)
		}
		c.tail, c.end, c.last = append(c.tail, m.First), m.Next, m
	}
	return false, nil
}

// fetch reads the manifests from an offset on, several at once.
func fetch(ctx context.Context, st storage.Store, manifests map[int64]string, from int64) (map[int64]*Manifest, error) {
	found := map[int64]*Manifest{}
	var mu sync.Mutex // guards found
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchAtOnce)
	for first, name := range manifests {
		if first < from {
			continue
		}
		g.Go(func() error {
			m, err := readManifest(ctx, st, name)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			found[first] = m
			return nil
		})
	}
	err := g.Wait()
	return found, err
}

const fetchAtOnce = 8

// list gives a chain's manifests and folds by their first offset.
func list(ctx context.Context, st storage.Store, dir string) (manifests map[int64]string, folds map[int64]entry, err error) {
	manifests, folds = map[int64]string{}, map[int64]entry{}
	for i, err := range st.List(ctx, dir) {
		if err != nil {
			return nil, nil, err
		}
		e, ok := parseEntry(i.Name)
		switch {
		case !ok || path.Dir(i.Name)+"/" != dir:
		case !e.folded:
			manifests[e.first] = e.name
		case e.next > e.first:
			folds[e.first] = e
		}
	}
	return manifests, folds, nil
}

func readManifest(ctx context.Context, st storage.Store, name string) (*Manifest, error) {
	b, err := st.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	m := new(Manifest)
	if err := decode(name, b, m, &m.Version); err != nil {
		return nil, err
	}
	if path.Base(name) != offsetName(m.First) || m.Next.Offset <= m.First && m.Sealed == 0 {
		return nil, &DamagedError{name, fmt.Errorf("it goes from %d to %d", m.First, m.Next.Offset)}
	}
	return m, nil
}

// End is where the chain ends.
func (c *Chain) End() record.Position { return c.end }

// Tail is how many commits are not folded.
func (c *Chain) Tail() int { return len(c.tail) }

// Check tells whether reading may begin at from with this chain: it may end ahead, and not behind.
func (c *Chain) Check(from record.Position) error {
	if c.end.Offset < from.Offset {
		return &GapError{c.key, c.end.Offset, from.Offset}
	}
	return nil
}

// Staged names the n-th file of the commit that begins where the chain ends now or will end: a name that
// nobody else uses.
func Staged(key Key, first int64, writer string, n int) string {
	return fmt.Sprintf("%s/%s/%s-%s-%d", staging, key.dir(), offsetName(first), writer, n)
}

// Commit makes the next manifest. The files are durable under their staged names. After an error
// other than ErrFenced it may have been made, and Commit is called again with the same.
func (c *Chain) Commit(ctx context.Context, m *Manifest) error {
	if m.First != c.end.Offset || m.Next.Offset <= m.First || c.last != nil {
		panic(fmt.Sprintf("commit of [%d, %d) to a chain that ends at %d, published: %v", m.First, m.Next.Offset, c.end.Offset, c.last == nil))
	}
	m.Version, m.Writer = manifestVersion, c.writer
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	name := c.dir + offsetName(m.First)
	if err := c.st.Create(ctx, name, text); err != nil {
		// It may be there for all that, of this attempt or of an earlier one.
		if !c.ours(context.WithoutCancel(ctx), name, text) {
			if errors.Is(err, storage.ErrExists) {
				return fmt.Errorf("%w at offset %d of %s", ErrFenced, m.First, c.key)
			}
			return err
		}
		if err := c.st.Confirm(ctx, name); err != nil {
			return err
		}
	}
	// A: sleeps before the put. B: continues the chain, folds it, and deletes the manifest of this
	// name. A: the put succeeds. But the fold was there before the deletion, so A sees it.
	_, folds, err := list(ctx, c.st, c.dir)
	if err != nil {
		return err
	}
	for _, f := range folds {
		if f.first <= m.First && m.First < f.next {
			return fmt.Errorf("%w at offset %d of %s, long ago", ErrFenced, m.First, c.key)
		}
	}
	c.tail, c.end = append(c.tail, m.First), m.Next
	if len(m.Files) > 0 {
		c.last = m
	}
	return nil
}

func (c *Chain) ours(ctx context.Context, name string, text []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, readBack)
	defer cancel()
	b, err := c.st.Get(ctx, name)
	return err == nil && bytes.Equal(b, text)
}

// readBack bounds the question whether a commit is there whose caller is in a hurry to leave.
const readBack = 10 * time.Second

// Last gives the last commit if its files may not be published yet.
func (c *Chain) Last() *Manifest { return c.last }

// Publish gives the files of the last commit their names, and takes their staged ones away. It may be repeated. It
// returns the files that were published before and are gone: somebody has deleted them.
func (c *Chain) Publish(ctx context.Context) (gone []File, err error) {
	m := c.last
	if m == nil {
		return nil, nil
	}
	// The compactions are looked at after the manifest was made. A: makes a plan, then looks at the ends of all chains, and
	// takes care of what is not published there. So a manifest that A does not see is made after the plan, which is seen here.
	places := map[string]*Compacted{}
	for _, f := range m.Files {
		targets := []string{f.Path}
		if dir := path.Dir(f.Path); c.moves && dir != "." {
			p := places[dir]
			if p == nil {
				if p, err = ReadCompacted(ctx, c.st, dir); err != nil {
					return nil, err
				}
				places[dir] = p
			}
			targets = p.Targets(path.Base(f.Path))
		}
		there := len(targets) == 0
		for _, to := range targets {
			err := c.st.Publish(ctx, f.Staged, to)
			if err != nil && !errors.Is(err, storage.ErrNotExist) {
				return nil, err
			}
			there = there || err == nil
		}
		if !there { // the staged file of a manifest is deleted only after it was published
			gone = append(gone, f)
		}
	}
	for _, f := range m.Files {
		if err := c.st.Delete(ctx, f.Staged); err != nil {
			return nil, err
		}
	}
	c.last = nil
	return gone, nil
}

// Clean deletes staged files of commits before the chain's end: what writers left that were fenced off or
// crashed; and manifests that were folded. Only what is older than a time is touched, and nothing at the end itself, which a
// commit that is on its way may name. It does nothing while the last commit is not published.
func (c *Chain) Clean(ctx context.Context, before time.Time) error {
	if c.last != nil {
		return nil
	}
	for i, err := range c.st.List(ctx, staging+"/"+c.key.dir()+"/") {
		if err != nil {
			return err
		}
		digits, _, _ := strings.Cut(path.Base(i.Name), "-")
		first, ok := parseOffset(digits)
		if !ok || first >= c.end.Offset || !i.ModTime.Before(before) {
			continue
		}
		if err := c.st.Delete(ctx, i.Name); err != nil {
			return err
		}
	}
	for i, err := range c.st.List(ctx, c.dir) {
		if err != nil {
			return err
		}
		e, ok := parseEntry(i.Name)
		folded := c.end.Offset
		if len(c.tail) > 0 {
			folded = c.tail[0]
		}
		if !ok || e.folded || e.first >= folded || !i.ModTime.Before(before) {
			continue
		}
		if err := c.st.Delete(ctx, i.Name); err != nil {
			return err
		}
	}
	return nil
}
