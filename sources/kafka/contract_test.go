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

// testContractDirect holds the source without a group to the contract.
func testContractDirect(t *testing.T, o client.Options) {
	contract(t, o, false, func(topic, group string) (sources.Source, error) {
		return kafka.Config{Client: o, Topic: topic, Group: group}.NewDirect(sources.Deps{})
	})
}

func testContract(t *testing.T, o client.Options) {
	contract(t, o, true, func(topic, group string) (sources.Source, error) {
		return (&kafka.Config{Client: o, Topic: topic, Group: group}).New(sources.Deps{})
	})
}

func contract(t *testing.T, o client.Options, keeps bool, source func(topic, group string) (sources.Source, error)) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Case {
		name, a := topic(t, o, 2, nil)
		produce(t, o, name, parts(2), 0, 200)
		var want []string
		for i := range 200 {
			want = append(want, fmt.Sprint(i))
		}
		a.Close()
		make := func(topic string) sources.Source {
			s, err := source(topic, "g-"+name)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		return sourcetest.Case{
			New:            func() sources.Source { return make(name) },
			Want:           map[int32][]string{0: want, 1: want},
			KeepsPositions: keeps,
			HeedsWant:      true,
			Unopenable:     func() sources.Source { return make("no-such-topic") },
			Ignore:         []goleak.Option{goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read"), goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).write")},
		}
	})
}
