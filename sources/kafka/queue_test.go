package kafka

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/kafka/client"
)

// losses is a listener that hears of those alone.
type losses struct {
	sources.Listener
	heard *[]string
}

func (l losses) DataLoss(_ int32, from, to int64) {
	*l.heard = append(*l.heard, fmt.Sprintf("lost %d-%d", from, to))
}

// What was fetched before a loss is handed out before it is told, and what comes after it
// after: a position behind the loss is behind all of that.
func TestLossKeepsItsPlace(t *testing.T) {
	c := Config{Client: client.Options{Brokers: []string{"localhost:9092"}}, Topic: "t", Group: "g"}
	src, err := c.New(sources.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	s := src.(*Source)
	var heard []string
	s.listener = losses{heard: &heard}
	s.lanes[0] = &lane{open: true}
	fetched := func(begin, from, to int64) {
		p := &kgo.FetchPartition{LogStartOffset: begin, HighWatermark: to, LastStableOffset: to}
		for ; from < to; from++ {
			p.Records = append(p.Records, &kgo.Record{Offset: from})
		}
		s.fileRecords(p)
	}
	fetched(0, 0, 5)
	fetched(8, 8, 10)
	s.mu.Lock()
	s.lanes[0].lose(10, 12)
	s.lanes[0].lose(12, 20) // two in a row are one
	s.lanes[0].next = 20
	s.enqueue(s.lanes[0])
	s.mu.Unlock()
	var b record.Batch
	for range 4 {
		b.Reset()
		if err := s.Read(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
		heard = append(heard, fmt.Sprintf("%d to %d", len(b.Records), b.Next.Offset))
	}
	const want = "5 to 5; lost 5-8; 0 to 8; 2 to 10; lost 10-20; 0 to 20"
	if got := strings.Join(heard, "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
