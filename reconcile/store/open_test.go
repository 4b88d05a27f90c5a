package store

import (
	"sync"
	"testing"
)

// A server and commands that look open a new state at the same time: whoever
// is second waits for the file to be made.
func TestOpenAtOnce(t *testing.T) {
	for range 30 {
		o := Options{Dir: t.TempDir(), Env: "default"}
		begin := make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				<-begin
				s, err := Open(t.Context(), o)
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		close(begin)
		all.Wait()
	}
}
