package metastore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	hms "github.com/beltran/gohive/hive_metastore"
)

// NamedPartitions looks up partitions by their names, "dt=2026-01-02/hour=03", as Hive escapes
// them. Those that are not registered are left out.
func (c *Client) NamedPartitions(ctx context.Context, db, name string, names []string) ([]Partition, error) {
	var out []Partition
	for chunk := range slices.Chunk(names, partitionsAtOnce) {
		var parts []*hms.Partition
		err := c.call(ctx, fmt.Sprintf("look up %d partitions of %s.%s", len(chunk), db, name), func(ctx context.Context, x *conn) (err error) {
			parts, err = x.GetPartitionsByNames(ctx, db, name, chunk)
			return err
		})
		if err != nil {
			return nil, err
		}
		_ = each(parts, func(p Partition) error { out = append(out, p); return nil })
	}
	return out, nil
}

// SetParameter notes something with a table. The rest of it stays as it is.
func (c *Client) SetParameter(ctx context.Context, db, name, key, value string) error {
	return c.call(ctx, fmt.Sprintf("set %s of %s.%s", key, db, name), func(ctx context.Context, x *conn) error {
		t, err := x.GetTable(ctx, db, name)
		if err != nil {
			return err
		}
		t.Parameters = orEmpty(t.Parameters)
		t.Parameters[key] = value
		return x.AlterTable(ctx, db, name, t)
	})
}

// Absent tells whether the answer is that there is no such database, table or partition.
func Absent(err error) bool {
	var e *hms.NoSuchObjectException
	return errors.As(err, &e)
}
