package file

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"keystone/sinks"
)

// explain says what to do about an error, and whether trying again may mend it.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	var no *refusal
	switch {
	case sinks.IsPermanent(err), errors.As(err, &no):
		return err
	case is(err, syscall.ENOSPC, syscall.EDQUOT):
		return fmt.Errorf("%s: the disk is full; nothing is lost, and no line is left half written: free some space: %w", what, err)
	case is(err, syscall.EFBIG):
		return sinks.Permanent{Err: fmt.Errorf("%s: the file is larger than the system allows; set rotate_bytes, or raise the limit (ulimit -f): %w", what, err)}
	case is(err, syscall.EROFS):
		return sinks.Permanent{Err: fmt.Errorf("%s: the file system is read-only; write elsewhere, or mount it for writing: %w", what, err)}
	case is(err, syscall.EACCES, syscall.EPERM):
		return sinks.Permanent{Err: fmt.Errorf("%s: permission denied; let the user that runs this write there: %w", what, err)}
	case is(err, syscall.EISDIR):
		return sinks.Permanent{Err: fmt.Errorf("%s: it is a folder; name a file in it: %w", what, err)}
	case is(err, syscall.ENOTDIR, syscall.EEXIST):
		return sinks.Permanent{Err: fmt.Errorf("%s: a part of the path before the last is a file, not a folder: %w", what, err)}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func is(err error, any ...syscall.Errno) bool {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return false
	}
	for _, e := range any {
		if no == e {
			return true
		}
	}
	return false
}

// ofData tells errors of opening a file that come from what the path's values
// are: the next record may do better.
func ofData(err error) bool {
	if is(err, syscall.ENAMETOOLONG, syscall.ENOTDIR, syscall.EISDIR, syscall.EEXIST, syscall.EINVAL, syscall.EILSEQ, syscall.ELOOP) {
		return true
	}
	var at *os.PathError
	var no syscall.Errno
	return errors.As(err, &at) && !errors.As(err, &no) && !errors.Is(err, os.ErrClosed) && !errors.Is(err, errBusy) // os.Root refuses: it leads out of the folder
}
