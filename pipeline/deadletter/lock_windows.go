package deadletter

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockFile waits for the exclusive lock of an open file, which ends with it.
// The byte that is locked is far behind what files hold: readers need not wait.
func lockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30})
}

func unlockFile(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30})
}
