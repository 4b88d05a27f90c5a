package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// state is what a checkpoint stores of the sink.
type state struct {
	Version int         `json:"v"`
	Epoch   int64       `json:"e"`
	Journal string      `json:"j,omitempty"`
	Files   []fileState `json:"files,omitempty"`
}

// fileState is one file that was open.
type fileState struct {
	Name   string `json:"n"` // below the folder
	Length int64  `json:"l"`
	Began  int64  `json:"t,omitempty"`   // milliseconds since 1970
	Temp   bool   `json:"run,omitempty"` // it had its unfinished name
}

const stateVersion = 1

// state gives that of an epoch, as of now.
func (s *sink) state(epoch int64) *state {
	st := &state{Version: stateVersion, Epoch: epoch}
	if s.journal != nil {
		st.Journal = s.journal.name
	}
	for _, o := range s.outs {
		if !o.device {
			st.Files = append(st.Files, fileState{Name: o.name, Length: o.size, Began: o.began.UnixMilli(), Temp: o.temp})
		}
	}
	for name := range s.mine { // of a single run, also those that are closed
		if !slices.ContainsFunc(st.Files, func(f fileState) bool { return f.Name == name }) {
			if fi, err := s.root.Stat(unfinished(name)); err == nil {
				st.Files = append(st.Files, fileState{Name: name, Length: fi.Size(), Temp: true})
			}
		}
	}
	slices.SortFunc(st.Files, func(a, b fileState) int { return strings.Compare(a.Name, b.Name) })
	return st
}

func (st *state) encode() ([]byte, error) { return json.Marshal(st) }

func (st *state) file(name string) (fileState, bool) {
	for _, f := range st.Files {
		if f.Name == name {
			return f, true
		}
	}
	return fileState{}, false
}

// Restore says what the last checkpoint was; Open takes back what came after.
func (s *sink) Restore(text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restore = nil
	if len(text) == 0 {
		return
	}
	s.restore = new(state)
	if err := json.Unmarshal(text, s.restore); err != nil {
		s.restore.Version = -1
	}
}

// recover makes the restored state true again.
func (s *sink) recover() error {
	st := s.restore
	if st != nil && st.Version != stateVersion {
		return fmt.Errorf("the stored state of the files has version %d, and this program reads %d: use the version that wrote it, or reset the route's positions", st.Version, stateVersion)
	}
	if st != nil {
		s.epoch = st.Epoch
	}
	switch {
	case s.device:
		return nil
	case s.once && st == nil:
		return nil
	case s.once && s.resumeRun(st):
		return nil
	}
	s.once = false
	name := journalName(s.route, s.cfg.Path.S)
	j, err := openJournal(s.root, name)
	if err != nil {
		return err
	}
	s.journal = j
	if st == nil && j.stored {
		s.log.Warn("the files were written by this route before, and its positions are gone: what it reads again is written again", "path", s.cfg.Path.S)
	}
	if st != nil && st.Journal != "" && st.Journal != name { // the route or its path was renamed
		if err := s.undoOld(st); err != nil {
			return err
		}
	}
	for file, length := range j.undone(st) {
		if err := s.cut(file, length); err != nil {
			return err
		}
	}
	return j.reset(s.epoch, st != nil)
}

// undoOld undoes by the journal of the name that the route had.
func (s *sink) undoOld(st *state) error {
	if _, err := s.root.Stat(st.Journal); err != nil {
		return nil //nolint:nilerr // there is nothing to undo
	}
	j, err := openJournal(s.root, st.Journal)
	if err != nil {
		return err
	}
	for file, length := range j.undone(st) {
		if err := s.cut(file, length); err != nil {
			return errors.Join(err, j.close())
		}
	}
	return errors.Join(s.root.Remove(st.Journal), j.close())
}

// resumeRun goes on with a single run that was interrupted before its files
// got their names: false if there are none.
func (s *sink) resumeRun(st *state) bool {
	some := false
	for _, f := range st.Files {
		if !f.Temp {
			continue
		}
		if _, err := s.root.Stat(unfinished(f.Name)); err != nil {
			continue
		}
		if err := s.cut(unfinished(f.Name), f.Length); err == nil {
			s.mine[f.Name], some = true, true
		}
	}
	return some
}

// cut shortens a file to what the state knows of, and deletes it if that is nothing.
func (s *sink) cut(name string, length int64) error {
	f, err := s.root.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if length > 0 {
			s.log.Warn("a file that was written before is gone: it is begun anew", "path", path.Join(s.root.Name(), name), "bytes", length)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it is synced
	if err := lock(f, path.Join(s.root.Name(), name)); err != nil {
		return err
	}
	fi, err := f.Stat()
	switch {
	case err != nil:
		return err
	case length == 0:
		s.folders[path.Dir(name)] = true
		return s.root.Remove(name)
	case fi.Size() < length:
		s.log.Warn("a file is shorter than what was written to it: it is continued as it is", "path", path.Join(s.root.Name(), name), "bytes", fi.Size(), "written", length)
		return nil
	case fi.Size() == length:
		return nil
	}
	s.log.Info("what came after the last commit is taken back, and written again", "path", path.Join(s.root.Name(), name), "bytes", fi.Size()-length)
	if err := f.Truncate(length); err != nil {
		return err
	}
	return f.Sync()
}
