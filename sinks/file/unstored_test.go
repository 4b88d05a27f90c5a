package file

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"keystone/sinks"
)

// TestAStateThatIsNotStoredForLong: while the store takes nothing, a worker writes nothing and asks for the state
// again and again. However often, and however large the journal is by then, what came after the last
// stored state can be taken back.
func TestAStateThatIsNotStoredForLong(t *testing.T) {
	dir := memory(t)
	long := strings.Repeat(strings.Repeat("d", 200)+"/", 4)
	s := open(t, config("{k}.ndjson"), sinks.Deps{Dir: dir}, nil)
	mustPut(t, s, long+"old.ndjson=1")
	stored := mustSync(t, s)
	for i := 0; s.journal.size < journalMax+(1<<14); i++ {
		mustPut(t, s, fmt.Sprintf("%s%d.ndjson=%d", long, i, i))
	}
	for range 2 * keepEpochs {
		mustSync(t, s) // given, and not stored
	}
	crash(s)
	mustClose(t, open(t, config("{k}.ndjson"), sinks.Deps{Dir: dir}, stored))
	left, err := filepath.Glob(filepath.Join(dir, long, "*.ndjson"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "old.ndjson" {
		t.Errorf("there are %d files, %v, want only that of the stored state", len(left), err)
	}
}
