package wire

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"keystone/configs"
	"keystone/dsl"
	"keystone/dsl/eval"
	"keystone/pipeline/record"
	"keystone/reconcile"
	sourcekafka "keystone/sources/kafka"
)

// What a plan looks at of streams without a schema: it must stay quick.
const (
	sampleEvents  = 1000
	sampleRoutes  = 20
	sampleTimeout = 2 * time.Second
)

// sample adds warnings about names that no event of a stream without a schema
// has, for the routes that a plan begins or changes.
func (s *server) sample(ctx context.Context, goal *configs.Config, plan *reconcile.Plan) {
	unchecked := goal.Unchecked()
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	looked := 0
	for _, c := range plan.Changes {
		route := goal.Routes[c.Addr]
		if route == nil || goal.Streams[route.From.Addr] == nil || !slices.Contains(unchecked, c.Addr) {
			continue
		}
		if looked++; looked > sampleRoutes {
			return
		}
		plan.Warnings = append(plan.Warnings, s.sampleRoute(ctx, goal, route)...)
	}
}

// sampleRoute runs the route's program over the last events of its stream. A
// stream that cannot be read gives nothing: the plan says so elsewhere.
func (s *server) sampleRoute(ctx context.Context, goal *configs.Config, route *configs.Route) []string {
	program, err := dsl.Compile(route.Checked)
	if err != nil || len(program.Reads()) == 0 {
		return nil
	}
	stream := goal.Streams[route.From.Addr]
	opts, err := s.plant.clientOptions(ctx, goal.ClusterOf(stream.Addr))
	if err != nil {
		return nil
	}
	n, seen := 0, make([]bool, len(program.Reads()))
	e, out := program.NewEval(), &record.Batch{}
	tap := sourcekafka.Tap{Client: opts, Topic: s.runtime.topicNames(goal)(stream.Addr), Last: sampleEvents, ReadCommitted: true}
	// What was read by an error or the end of time counts.
	_ = tap.Read(ctx, func(b *record.Batch) error {
		for i := range b.Records {
			out.Reset()
			if v, err := e.Run(b, i, out); v == eval.Failed && err.Code == "decode" {
				continue
			}
			e.Seen(seen)
			if n++; n >= sampleEvents {
				return sourcekafka.ErrStop
			}
		}
		return nil
	})
	if n == 0 {
		return nil
	}
	var never []string
	for i, path := range program.Reads() {
		if !seen[i] {
			never = append(never, path)
		}
	}
	if len(never) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s in none of the last %d events of %s; check the name, or give the stream a schema", route.Addr, was(never), n, stream.Addr)}
}

func was(names []string) string {
	if len(names) == 1 {
		return names[0] + " was"
	}
	return strings.Join(names, ", ") + " were"
}
