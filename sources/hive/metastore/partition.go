package metastore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	hms "github.com/beltran/gohive/hive_metastore"
)

// Partition is one folder of a table: a value for each of its keys, in their order.
type Partition struct {
	Values     []string
	Location   string
	Parameters map[string]string
}

// partitionsAtOnce bounds one request: the metastore writes it in one transaction.
const partitionsAtOnce = 500

// AddPartitions registers partitions with the table's columns as they are. Those that
// are registered already stay as they are, wherever they are.
func (c *Client) AddPartitions(ctx context.Context, db, name string, parts []Partition) error {
	for chunk := range slices.Chunk(parts, partitionsAtOnce) {
		err := c.call(ctx, fmt.Sprintf("add %d partitions to %s.%s", len(chunk), db, name), func(ctx context.Context, x *conn) error {
			t, err := x.GetTable(ctx, db, name)
			if err != nil {
				return err
			}
			request := &hms.AddPartitionsRequest{DbName: db, TblName: name, IfNotExists: true}
			for _, p := range chunk {
				request.Parts = append(request.Parts, &hms.Partition{DbName: db, TableName: name, Values: p.Values,
					Sd: descriptor(t.Sd.Cols, p.Location), Parameters: orEmpty(p.Parameters)})
			}
			_, err = x.AddPartitionsReq(ctx, request)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func orEmpty(m map[string]string) map[string]string { // the metastore does not take null
	if m == nil {
		return map[string]string{}
	}
	return m
}

// Partition looks up one partition; nil if it is not registered.
func (c *Client) Partition(ctx context.Context, db, name string, values []string) (p *Partition, err error) {
	err = c.call(ctx, fmt.Sprintf("look up a partition of %s.%s", db, name), func(ctx context.Context, x *conn) error {
		p = nil
		have, err := x.GetPartition(ctx, db, name, values)
		if err == nil {
			p = &Partition{have.Values, have.Sd.Location, have.Parameters}
		}
		return unless[*hms.NoSuchObjectException](err)
	})
	return p, err
}

// SetLocation has a partition read from another folder, from one moment to the next. It
// also takes over p's parameters.
func (c *Client) SetLocation(ctx context.Context, db, name string, p Partition) error {
	return c.call(ctx, fmt.Sprintf("move a partition of %s.%s", db, name), func(ctx context.Context, x *conn) error {
		have, err := x.GetPartition(ctx, db, name, p.Values)
		if err != nil {
			return err
		}
		have.Sd.Location = p.Location
		have.Parameters = orEmpty(have.Parameters)
		for k, v := range p.Parameters {
			have.Parameters[k] = v
		}
		return x.AlterPartition(ctx, db, name, have)
	})
}

// EachPartition gives f the partitions of a table, in the order of their names. filter is
// Hive's own over the keys, `dt >= "2026-01-01"`, or "" for all.
func (c *Client) EachPartition(ctx context.Context, db, name, filter string, f func(Partition) error) error {
	var names []string
	what := fmt.Sprintf("list the partitions of %s.%s", db, name)
	if filter != "" {
		var parts []*hms.Partition
		err := c.call(ctx, what, func(ctx context.Context, x *conn) (err error) {
			parts, err = x.GetPartitionsByFilter(ctx, db, name, filter, -1)
			return err
		})
		if err != nil {
			return err
		}
		return each(parts, f)
	}
	err := c.call(ctx, what, func(ctx context.Context, x *conn) (err error) {
		names, err = x.GetPartitionNames(ctx, db, name, -1)
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	for chunk := range slices.Chunk(names, partitionsAtOnce) {
		var parts []*hms.Partition
		err := c.call(ctx, what, func(ctx context.Context, x *conn) (err error) {
			parts, err = x.GetPartitionsByNames(ctx, db, name, chunk)
			return err
		})
		if err != nil {
			return err
		}
		if err := each(parts, f); err != nil {
			return err
		}
	}
	return nil
}

func each(parts []*hms.Partition, f func(Partition) error) error {
	slices.SortFunc(parts, func(a, b *hms.Partition) int { return slices.CompareFunc(a.Values, b.Values, strings.Compare) })
	for _, p := range parts {
		if err := f(Partition{p.Values, p.Sd.Location, p.Parameters}); err != nil {
			return err
		}
	}
	return nil
}

// Move has a partition read from another folder, if it is read from one that from takes; at tells where it was, and moved whether it
// is where it should be now. A partition that is there already stays as it is.
func (c *Client) Move(ctx context.Context, db, name string, p Partition, from func(location string) bool) (at string, moved bool, err error) {
	err = c.call(ctx, fmt.Sprintf("move a partition of %s.%s", db, name), func(ctx context.Context, x *conn) error {
		have, err := x.GetPartition(ctx, db, name, p.Values)
		if err != nil {
			return err
		}
		at, moved = have.Sd.Location, have.Sd.Location == p.Location
		if moved || !from(at) {
			return nil
		}
		have.Sd.Location = p.Location
		have.Parameters = orEmpty(have.Parameters)
		for k, v := range p.Parameters {
			have.Parameters[k] = v
		}
		err = x.AlterPartition(ctx, db, name, have)
		moved = err == nil
		return err
	})
	return at, moved, err
}
