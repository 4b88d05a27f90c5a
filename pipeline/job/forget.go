package job

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"keystone/pipeline/state"
)

// Forget takes the state of operators, by their names, out of a store that no job has open, in an epoch of its own: they begin
// empty when the job runs again, and a read begins where its option start says. Those that the state does not know are left out, so it may be repeated.
func Forget(s *state.Store, operators []string) error {
	last, b := s.Last()
	if len(b) == 0 {
		return nil
	}
	var m meta
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("what the last epoch of the state says of the job: %w", err)
	}
	batch := s.NewBatch()
	defer batch.Close()
	found := false
	for _, name := range operators {
		if id, ok := m.Operators[name]; ok {
			batch.DeleteRange(binary.BigEndian.AppendUint16(nil, id), binary.BigEndian.AppendUint16(nil, id+1))
			delete(m.Operators, name)
			delete(m.Marks, name)
			found = true
		}
		if _, ok := m.Reads[name]; ok {
			delete(m.Reads, name)
			found = true
		}
	}
	if !found {
		return nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	next := last.Next()
	if g := s.Generation(); g > last.Generation {
		next = state.Epoch{Generation: g, N: 1}
	}
	return s.Commit(batch, next, b)
}
