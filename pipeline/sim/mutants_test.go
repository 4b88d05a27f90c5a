//go:build synctests && mutation

package sim

import (
	"fmt"
	"testing"

	"keystone/pipeline/mutation"
)

// chainMutants are mistakes that only a route into a chained sink can make.
var chainMutants = map[mutation.Name]bool{mutation.CutUnanswered: true, mutation.SourceFirst: true, mutation.IgnoreChain: true, mutation.KeepOpen: true}

// TestMutants makes each mistake in turn: the simulation has to find it within -seeds seeds.
func TestMutants(t *testing.T) {
	for _, m := range mutation.All() {
		from := *fromFlag
		if chainMutants[m] {
			from += chainFrom
		}
		s, failures := parts(t, from, *seedsFlag, 2, "KEYSTONE_MUTATION="+string(m))
		if len(failures) == 0 {
			t.Errorf("%s: %d seeds did not find it", m, s.Seeds)
			continue
		}
		fmt.Printf("%-18s found after %d seeds\n", m, s.Seeds)
		if testing.Verbose() {
			fmt.Println(failures[0])
		}
	}
}
