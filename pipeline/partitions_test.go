package pipeline

import "testing"

// TestWithoutPartitions says on what a worker waits that reads nothing since it was given nothing.
func TestWithoutPartitions(t *testing.T) {
	w := &Worker{phase: Fetching, lanes: map[int32]*lane{}}
	for _, tc := range []struct {
		edit func()
		want Activity
	}{
		{func() {}, WaitingPartitions},
		{func() { w.held = true }, Paused},
		{func() { w.held, w.lanes[0] = false, &lane{} }, Fetching},
		{func() { delete(w.lanes, 0); w.phase = Starting }, Starting},
	} {
		tc.edit()
		s := Stats{}
		if w.describe(&s, false, nil); s.Activity != tc.want {
			t.Errorf("%s, want %s", s.Activity, tc.want)
		}
	}
}
