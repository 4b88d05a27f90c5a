package admin

import (
	"context"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Stable gives, per partition, the offset before which every transaction has
// ended: what a reader of committed records gets. It is at most the end.
func (a *Admin) Stable(ctx context.Context, topic string) ([]int64, error) {
	return a.list(ctx, "list the last stable offsets", topic, func() (kadm.ListedOffsets, error) { return a.adm.ListCommittedOffsets(ctx, topic) })
}

func (a *Admin) list(ctx context.Context, what, topic string, ask func() (kadm.ListedOffsets, error)) ([]int64, error) {
	var listed kadm.ListedOffsets
	err := again(ctx, func() (err error) {
		if listed, err = ask(); err == nil {
			err = listed.Error()
		}
		return err
	})
	if err != nil {
		return nil, a.explain(what+" of topic "+topic, err)
	}
	out := make([]int64, len(listed[topic]))
	for p, o := range listed[topic] {
		if int(p) < len(out) {
			out[p] = o.Offset
		}
	}
	return out, nil
}
