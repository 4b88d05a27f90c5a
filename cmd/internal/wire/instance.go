package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"

	"keystone/configs/addr"
)

// instance names a route's member of its consumer group: the same whenever a
// process with this state directory starts, another for every other
// installation. The lock on the state directory sees to it that there is one
// process; where that does not reach, as for a copy on a host of the same
// name, the group refuses the earlier one, which says so.
//
// There are two names of a route, since two of its workers live while one takes
// the place of the other: seat says which.
func instance(stateDir string, route addr.Addr, seat int) string {
	name := "keystone-" + digest(stateDir, route.String())
	if seat > 0 {
		name += "-" + strconv.Itoa(seat)
	}
	return name
}

// seats is how many workers of a route may live at once.
const seats = 2

// instances gives every name that a member of the route may have.
func instances(stateDir string, route addr.Addr) (names []string) {
	for seat := range seats {
		names = append(names, instance(stateDir, route, seat))
	}
	return names
}

// installation names the state directory among all of the world.
func installation(stateDir string) string { return digest(stateDir, "") }

func digest(stateDir, what string) string {
	host, _ := os.Hostname() // without one the directory must do
	if dir, err := filepath.Abs(stateDir); err == nil {
		stateDir = dir
	}
	sum := sha256.Sum256([]byte(host + "\x00" + stateDir + "\x00" + what))
	return hex.EncodeToString(sum[:12])
}
