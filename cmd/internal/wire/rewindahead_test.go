package wire

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
	"keystone/configs/addr"
	"keystone/pipeline/record"
)

// What a worker delivered and has not committed yet counts for a rewind: a route whose group is still at the
// start is not there any more.
func TestRewindAheadOfTheCommit(t *testing.T) {
	l := newLab(t, `
stream "in" {
  partitions = 1
}

stream "out" {
  partitions = 1
}

route "copy" {
  from = stream.in
  to   = stream.out
  delivery {
    commit_interval = "600s"
  }
}
`)
	for i := range 5 {
		l.produce(&kgo.Record{Topic: "in", Value: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	delivered := func(n int64) {
		t.Helper()
		l.until("the records are delivered", func() error {
			ends, err := l.adm.ListEndOffsets(t.Context(), "out")
			if err != nil {
				return err
			}
			if end, _ := ends.Lookup("out", 0); end.Offset != n {
				return fmt.Errorf("%d records, want %d", end.Offset, n)
			}
			return nil
		})
	}
	delivered(5)
	at, err := l.adm.FetchOffsets(t.Context(), "keystone.default.default.route.copy")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := at.Lookup("in", 0); !ok || o.At != 0 {
		t.Fatalf("the group is at %v: the test proves nothing", o)
	}
	plan, err := l.client.Rewind(t.Context(), api.Rewind{Address: "route.copy", Start: true, Who: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Repeated != 5 {
		t.Errorf("%d records are said to be repeated, want 5", plan.Repeated)
	}
	delivered(10)
}

// reached keeps what is stored of partitions that no worker here reads.
func TestReached(t *testing.T) {
	stored := []record.Position{{Partition: 3, Offset: 7}}
	s := &server{runtime: &runtime{units: map[addr.Addr]*unit{}}}
	if got := s.reached(addr.New("route", "a"), stored); fmt.Sprint(got) != fmt.Sprint(stored) {
		t.Errorf("got %v", got)
	}
}
