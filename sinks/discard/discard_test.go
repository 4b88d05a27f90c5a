package discard

import (
	"testing"

	"keystone/sinks"
	"keystone/sinks/sinktest"
)

func TestContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Case {
		return sinktest.Case{New: func() sinks.Sink { s, _ := new(Config).New(sinks.Deps{}); return s }}
	})
}
