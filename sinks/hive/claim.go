package hive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"keystone/sources/hive/storage"
)

// claim is the right to compact a table: one process has it at a time. It is a number, made if there is none, that
// grows while somebody has it. Who sees it unchanged for as long as a claim lasts takes the next number; clocks are not compared.
type claim struct {
	st     storage.Store
	writer string
	number int64     // the last one of ours; 0: none
	until  time.Time // by our clock
}

const (
	claims    = "_keystone/compactor/"
	claimLast = time.Minute
	claimKeep = claimLast / 3 // how often it is renewed
	claimSure = claimLast / 2 // how long after a renewal its owner relies on it
)

// held tells whether what takes a moment may be begun under the claim.
func (c *claim) held(now time.Time) bool { return c.number > 0 && now.Before(c.until) }

// newest gives the highest number.
func (c *claim) newest(ctx context.Context) (n int64, err error) {
	for i, err := range c.st.List(ctx, claims) {
		if err != nil {
			return 0, err
		}
		if k, err := strconv.ParseInt(strings.TrimPrefix(i.Name, claims), 10, 64); err == nil {
			n = max(n, k)
		}
	}
	return n, nil
}

// take gets the claim if nobody has it; it waits as long as one lasts to know. now is our clock, sleep waits by it.
func (c *claim) take(ctx context.Context, now func() time.Time, sleep func(context.Context, time.Duration) bool) (bool, error) {
	n, err := c.newest(ctx)
	if err != nil {
		return false, err
	}
	if n > 0 && n != c.number {
		if !sleep(ctx, claimLast) {
			return false, ctx.Err()
		}
		again, err := c.newest(ctx)
		if again != n || err != nil {
			return false, err
		}
	}
	return c.next(ctx, n, now)
}

// renew keeps the claim; false: somebody else has it.
func (c *claim) renew(ctx context.Context, now func() time.Time) (bool, error) {
	return c.next(ctx, c.number, now)
}

func (c *claim) next(ctx context.Context, n int64, now func() time.Time) (bool, error) {
	begin := now()
	text, err := json.Marshal(map[string]any{"version": 1, "writer": c.writer})
	if err != nil {
		return false, err
	}
	name := func(n int64) string { return fmt.Sprintf("%s%020d", claims, n) }
	if err := c.st.Create(ctx, name(n+1), text); errors.Is(err, storage.ErrExists) {
		c.number = 0
		return false, nil
	} else if err != nil {
		return false, err
	}
	// A: sleeps before the put. B: goes on from there, and deletes the number of A. A: the put succeeds. But a higher one is there.
	last, err := c.newest(ctx)
	if err != nil {
		return false, err
	}
	if last != n+1 {
		c.number = 0
		return false, c.st.Delete(ctx, name(n+1))
	}
	c.number, c.until = n+1, begin.Add(claimSure)
	for i, err := range c.st.List(ctx, claims) {
		if err != nil || i.Name >= name(n+1) {
			break
		}
		if err := c.st.Delete(ctx, i.Name); err != nil {
			break
		}
	}
	return true, nil
}
