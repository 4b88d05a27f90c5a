package api_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keystone/cmd/internal/api"
)

func TestLettersTravel(t *testing.T) {
	c := serveUnix(t, &memory{})
	counts, err := c.LetterCounts(t.Context())
	if err != nil || len(counts) != 1 || counts[0].Letters != 2 {
		t.Errorf("%+v %v", counts, err)
	}
	var got []api.DeadLetter
	sum, err := c.DeadLetters(t.Context(), api.LetterQuery{Address: "route.tv", Codes: []string{"decode", "type"}}, func(l api.DeadLetter) error { got = append(got, l); return nil })
	if err != nil || sum.Letters != 2 || sum.Replayed != 2 || len(got) != 2 || got[1].Code != "type" || got[1].ID != "0:1" || got[0].KeyBase64[0] != 0xff || got[0].Replays != 2 {
		t.Errorf("%+v %+v %v", sum, got, err)
	}
	var missing *api.NotFoundError
	if _, err := c.DeadLetters(t.Context(), api.LetterQuery{Address: "route.x"}, nil); !errors.As(err, &missing) {
		t.Errorf("%v", err)
	}
	enough := errors.New("enough")
	if _, err := c.DeadLetters(t.Context(), api.LetterQuery{Address: "route.tv", Codes: []string{"a"}}, func(api.DeadLetter) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
	ends := map[string]map[int32]int64{"t": {0: 7}}
	told := 0
	done, err := c.Replay(t.Context(), api.Replay{MaxReplays: 3, LetterQuery: api.LetterQuery{Ends: ends}}, func(api.Replayed) { told++ })
	if d := cmp.Diff(ends, done.Ends); err != nil || d != "" || told != 1 || done.Done() != 3 {
		t.Errorf("%+v %v %s", done, err, d)
	}
	purged, err := c.Purge(t.Context(), api.Purge{Plan: true, LetterQuery: api.LetterQuery{Limit: 4}})
	if err != nil || !purged.Plan || purged.Deleted != 4 {
		t.Errorf("%+v %v", purged, err)
	}
}

// TestReplayEndsWithItsClient: nobody watches, so it finishes what is in flight.
func TestReplayEndsWithItsClient(t *testing.T) {
	m := &memory{tapped: make(chan struct{})}
	c := serveUnix(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Replay(ctx, api.Replay{Who: "leaves"}, func(api.Replayed) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	<-m.tapped
}
