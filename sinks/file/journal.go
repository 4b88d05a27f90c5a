package file

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"syscall"
)

// The journal says which files were opened for writing since when, and how
// long they were: with it the next incarnation takes back what no stored
// state knows of.
//
// A state of Sync has the number of its epoch and the lengths of all files that
// were open. Crash points: (1) Before Sync's state is stored: the last stored
// state is of an earlier epoch e. A file open at e has its length in the state.
// A file opened since has a line with an epoch of e or later, which was on disk
// before the file was touched, with the length it had. (2) After: the
// same with the new epoch. So undoing state e is: cut each file of the state
// to its length there, any other named in lines of epochs >= e to the least
// length in them, and delete it if that is 0.
//
// Without a state there are two cases. The first incarnation died before its
// first state was stored: all lines are undone. Or the store was lost or reset:
// then what is in the files is not ours to delete. They are told apart by
// a mark, set at the first write after a state was given out (a worker writes again
// only when it has stored it).

// journalMax is the size at which lines of old epochs are dropped.
const journalMax = 1 << 20

// keepEpochs is how many epochs' lines stay: as many states in a row may fail to be stored.
const keepEpochs = 16

type journal struct {
	root   *os.Root
	name   string
	f      *os.File
	size   int64
	lines  []journalLine   // on disk
	known  map[string]bool // files with a line of this epoch
	epoch  int64
	stored bool // the mark is set
}

type journalLine struct {
	Epoch  int64  `json:"e"`
	Name   string `json:"n,omitempty"`
	Length int64  `json:"l"`
	Temp   bool   `json:"t,omitempty"`
	Stored bool   `json:"stored,omitempty"` // the mark
}

// journalName gives a name that the same route and path always have.
func journalName(route, pattern string) string {
	sum := sha256.Sum256([]byte(route + "\x00" + pattern))
	return hidden + hex.EncodeToString(sum[:6]) + ".journal"
}

// openJournal opens or makes the journal, and holds it against others.
func openJournal(root *os.Root, name string) (*journal, error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	j := &journal{root: root, name: name, f: f, known: map[string]bool{}}
	if err := lock(f, name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := j.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", name, err), f.Close())
	}
	return j, syncFolder(root, ".")
}

// lock takes the file for this process and descriptor until it is closed.
func lock(f file, name string) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%s is being written by another route or process; give each a path of its own, or wait until the other has ended: %w", name, errBusy)
	}
	return err
}

var errBusy = errors.New("the file is locked")

// read takes the lines. A line that was not written whole was of a file not yet touched.
func (j *journal) read() error {
	r := bufio.NewReader(io.NewSectionReader(j.f, 0, 1<<40))
	for {
		text, err := r.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var l journalLine
		if err := json.Unmarshal(text, &l); err != nil {
			return nil //nolint:nilerr // torn
		}
		j.lines = append(j.lines, l)
		j.size += int64(len(text))
		j.stored = j.stored || l.Stored
	}
}

// add makes a line durable.
func (j *journal) add(l journalLine) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if _, err := j.f.WriteAt(text, j.size); err != nil {
		_ = j.f.Truncate(j.size)
		return err
	}
	if err := j.f.Sync(); err != nil {
		return err
	}
	j.size += int64(len(text))
	j.lines = append(j.lines, l)
	return nil
}

// touch notes a file before it is opened for writing.
func (j *journal) touch(name string, length int64) error {
	if j.known[name] {
		return nil
	}
	if err := j.add(journalLine{Epoch: j.epoch, Name: name, Length: length}); err != nil {
		return fmt.Errorf("write the journal %s: %w", j.name, err)
	}
	j.known[name] = true
	return nil
}

// mark notes that a state was stored.
func (j *journal) mark() error {
	if j.stored {
		return nil
	}
	if err := j.add(journalLine{Epoch: j.epoch, Stored: true}); err != nil {
		return fmt.Errorf("write the journal %s: %w", j.name, err)
	}
	j.stored = true
	return nil
}

// advance begins an epoch: its state has all open files.
func (j *journal) advance(epoch int64) error {
	j.epoch = epoch
	clear(j.known)
	if j.size < journalMax {
		return nil
	}
	kept := j.lines[:0]
	for _, l := range j.lines {
		if l.Stored || l.Epoch > epoch-keepEpochs {
			kept = append(kept, l)
		}
	}
	j.lines = kept
	if err := j.rewrite(); err != nil {
		return fmt.Errorf("write the journal %s: %w", j.name, err)
	}
	return nil
}

// rewrite replaces the journal by its lines.
func (j *journal) rewrite() error {
	var text bytes.Buffer
	for _, l := range j.lines {
		if err := json.NewEncoder(&text).Encode(l); err != nil {
			return err
		}
	}
	next := j.name + ".new"
	f, err := j.root.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	err = lock(f, next)
	if err == nil {
		_, err = f.Write(text.Bytes())
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.root.Rename(next, j.name)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	_ = j.f.Close() // what it held is in the new one
	j.f, j.size = f, int64(text.Len())
	return syncFolder(j.root, ".")
}

// reset forgets all lines: they were undone.
func (j *journal) reset(epoch int64, stored bool) error {
	j.epoch, j.stored = epoch, stored
	clear(j.known)
	j.lines = j.lines[:0]
	if stored {
		j.lines = append(j.lines, journalLine{Epoch: epoch, Stored: true})
	}
	return j.rewrite()
}

// undone gives the lengths that files have to be cut to so that a state is true again.
func (j *journal) undone(st *state) map[string]int64 {
	cut := map[string]int64{}
	from := int64(0)
	if st != nil {
		from = st.Epoch
	} else if j.stored {
		return nil
	}
	for _, l := range j.lines {
		if l.Stored || l.Epoch < from {
			continue
		}
		if have, ok := cut[l.Name]; !ok || l.Length < have {
			cut[l.Name] = l.Length
		}
	}
	if st != nil {
		for _, f := range st.Files {
			cut[f.Name] = f.Length
		}
	}
	return cut
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	return j.f.Close()
}

// syncFolder makes the names in a folder durable.
func syncFolder(root *os.Root, dir string) error {
	d, err := root.Open(path.Clean(dir))
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) { // a file system that has no such thing
		err = nil
	}
	return errors.Join(err, d.Close())
}
