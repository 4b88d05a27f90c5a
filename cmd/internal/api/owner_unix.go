//go:build unix

package api

import (
	"fmt"
	"os"
	"syscall"
)

// checkOwner refuses a directory in which another user could have put a socket.
func checkOwner(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Getuid() && os.Getuid() != 0 {
		return fmt.Errorf("%s belongs to another user; remove it or choose another state_dir", dir)
	}
	return nil
}
