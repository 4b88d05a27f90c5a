package reconcile

import (
	"cmp"
	"slices"

	"keystone/configs"
	"keystone/configs/addr"
)

// order sorts changes so that what is referred to is there before what
// refers to it: workers that go stop first, then clusters, streams, sources and sinks, routes and jobs
// are made so, and at the end what nobody refers to any more goes.
func order(changes []Change, _ *configs.Config) {
	slices.SortStableFunc(changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(phase(a), phase(b)), addr.Compare(a.Addr, b.Addr))
	})
}

func phase(c Change) int {
	leaves := c.Action == Delete || c.Action == Forget
	switch c.Addr.Type {
	case typeRoute, typeJob:
		if leaves {
			return 0
		}
		return 4
	case typeSource, typeSink:
		if leaves {
			return 5
		}
		return 3
	case typeStream:
		if leaves {
			return 6
		}
		return 2
	case typeCluster:
		if leaves {
			return 7
		}
		return 1
	}
	return 4 // whatever else there will be works on streams
}
