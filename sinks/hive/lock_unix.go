//go:build unix

package hive

import (
	"os"

	"golang.org/x/sys/unix"
)

// tryLock locks a file for the life of the process, or fails at once.
func tryLock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
