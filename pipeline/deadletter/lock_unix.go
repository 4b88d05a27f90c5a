//go:build unix

package deadletter

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile waits for the exclusive lock of an open file, which ends with it.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) }

func unlockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }
