//go:build synctests && mutation

package sim

import (
	"fmt"
	"testing"

	"keystone/pipeline/mutation"
)

// TestMutants makes each mistake in turn: the simulation has to find it within -seeds seeds.
func TestMutants(t *testing.T) {
	for _, m := range mutation.All() {
		s, failures := parts(t, *fromFlag, *seedsFlag, 2, "KEYSTONE_MUTATION="+string(m))
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
