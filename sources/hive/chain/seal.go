package chain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"keystone/pipeline/record"
	"keystone/sources/hive/storage"
)

// A seal ends a chain for ever: it stands where the next manifest would, so who wants to make that one finds the name
// taken. It is an entry of version 2, since programs that know no seals must not take the chain for one that goes on.
const sealVersion = 2

// sealed is the name of a note that a chain and all of earlier generations are sealed: it spares looking.
const sealed = "sealed"

// Seal ends the chains of a partition in all generations before key's, also those that nobody has begun: a worker that
// sleeps over a rewind cannot commit to one when it wakes. from is where chains begin that were not there. What was committed
// is published, and stays. It may be repeated, and an error leaves nothing half done that a repetition does not complete.
func Seal(ctx context.Context, st storage.Store, key Key, from record.Position) error {
	var open []Key
	for g := key.Generation - 1; g >= 0; g-- {
		k := key
		k.Generation = g
		_, err := st.Stat(ctx, k.String()+"/"+sealed)
		if err == nil {
			break
		}
		if !errors.Is(err, storage.ErrNotExist) {
			return err
		}
		open = append(open, k)
	}
	for i := len(open) - 1; i >= 0; i-- { // the oldest first: a note tells of all before it
		if err := seal(ctx, st, open[i], from, key.Generation); err != nil {
			return fmt.Errorf("seal %s: %w", open[i], err)
		}
	}
	return nil
}

func seal(ctx context.Context, st storage.Store, key Key, from record.Position, by int64) error {
	c := &Chain{st: st, key: key, dir: key.String() + "/"}
	began, err := c.begin(ctx, from)
	if err != nil {
		return err
	}
	for range sealAttempts {
		again, err := c.follow(ctx, began, nil)
		if err != nil {
			return err
		}
		if again {
			continue
		}
		err = storage.ErrExists
		if c.sealed == 0 {
			err = c.seal(ctx, by)
		}
		if c.sealed == 0 && errors.Is(err, storage.ErrExists) { // its writer was quicker
			continue
		}
		if err != nil && !errors.Is(err, storage.ErrExists) {
			return err
		}
		if err := st.Confirm(ctx, c.dir+offsetName(c.end.Offset)); err != nil { // another one may have made it
			return err
		}
		if err := st.Create(ctx, c.dir+sealed, []byte("{}")); err != nil && !errors.Is(err, storage.ErrExists) {
			return err
		}
		return nil
	}
	return fmt.Errorf("%s changes faster than it can be read", key)
}

// sealAttempts is how often a writer may be quicker: it learns of the rewind only by the seal.
const sealAttempts = 100

// seal puts the seal where the chain ends. The last commit is published before, as before any next entry.
func (c *Chain) seal(ctx context.Context, by int64) error {
	if c.last != nil {
		if err := c.st.Confirm(ctx, c.dir+offsetName(c.last.First)); err != nil {
			return err
		}
		if _, err := c.Publish(ctx); err != nil {
			return err
		}
	}
	text, err := json.Marshal(Manifest{Version: sealVersion, First: c.end.Offset, Next: c.end, Made: time.Now().UTC(), Files: []File{}, Sealed: by})
	if err != nil {
		return err
	}
	return c.st.Create(ctx, c.dir+offsetName(c.end.Offset), text)
}
