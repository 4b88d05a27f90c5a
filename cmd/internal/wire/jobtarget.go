package wire

import (
	"context"

	"keystone/pipeline"
	"keystone/pipeline/deadletter"
	"keystone/pipeline/job/commit"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
	"keystone/sinks"
)

// letterFile publishes dead letters to a file, at least once.
type letterFile struct{ file *deadletter.File }

// Recover cannot tell what the file has.
func (l letterFile) Recover(context.Context) (state.Epoch, int, error) { return state.Epoch{}, 0, nil }

// Publish appends the letters of a chunk.
func (l letterFile) Publish(ctx context.Context, c *commit.Chunk) error {
	letters := make([]pipeline.DeadLetter, len(c.Rows))
	for i := range c.Rows {
		r := &c.Rows[i]
		l, err := deadletter.Parse(&record.Record{Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Time})
		if err != nil {
			return sinks.Permanent{Err: err}
		}
		letters[i] = l.DeadLetter()
	}
	return l.file.Write(ctx, letters)
}

// Close closes the file.
func (l letterFile) Close(ctx context.Context) error { return l.file.Close(ctx) }
