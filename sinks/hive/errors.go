package hive

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"keystone/sinks"
	"keystone/sources/hive/chain"
	"keystone/sources/hive/storage"
)

// explain says what to do about an error, and whether trying again may mend it.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	var unsafe *storage.UnsafeError
	var damaged *chain.DamagedError
	var name *storage.NameError
	switch {
	case sinks.IsPermanent(err):
		return err
	case errors.As(err, &unsafe), errors.As(err, &name):
		return sinks.Permanent{Err: fmt.Errorf("%s: %w", what, err)}
	case errors.As(err, &damaged):
		return sinks.Permanent{Err: fmt.Errorf("%s: %w. Restore it from a copy, or rewind the route: that begins a chain of its own, and what is read again is written again", what, err)}
	case errors.Is(err, chain.ErrFenced):
		return fmt.Errorf("%s: %w: %w", what, sinks.ErrFenced, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s: the disk is full; nothing is lost, and what is in the table is whole: free some space: %w", what, err)
	case errors.Is(err, syscall.EROFS):
		return sinks.Permanent{Err: fmt.Errorf("%s: the file system is read-only; write elsewhere, or mount it for writing: %w", what, err)}
	case errors.Is(err, fs.ErrPermission):
		return sinks.Permanent{Err: fmt.Errorf("%s: permission denied; let the user that runs this write there: %w", what, err)}
	case errors.Is(err, syscall.ENOTDIR):
		return sinks.Permanent{Err: fmt.Errorf("%s: a part of the path is a file, not a folder: %w", what, err)}
	case storage.Refused(err):
		return sinks.Permanent{Err: fmt.Errorf("%s: the store refuses it; look at the credentials and what they may do: %w", what, err)}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// refusal is a record that cannot be a row for what it holds.
type refusal struct{ code, text string }

func (r *refusal) Error() string { return r.text }
