package kafka_test

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"keystone/sources"
	"keystone/sources/kafka"
	"keystone/sources/kafka/client"
	"keystone/sources/sourcetest"
)

func testContract(t *testing.T, o client.Options) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Case {
		name, a := topic(t, o, 2, nil)
		produce(t, o, name, parts(2), 0, 200)
		var want []string
		for i := range 200 {
			want = append(want, fmt.Sprint(i))
		}
		a.Close()
		make := func(topic string) sources.Source {
			s, err := (&kafka.Config{Client: o, Topic: topic, Group: "g-" + name}).New(sources.Deps{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		return sourcetest.Case{
			New:            func() sources.Source { return make(name) },
			Want:           map[int32][]string{0: want, 1: want},
			KeepsPositions: true,
			HeedsWant:      true,
			Unopenable:     func() sources.Source { return make("no-such-topic") },
			Ignore:         []goleak.Option{goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read"), goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).write")},
		}
	})
}
