package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// maxSocketPath is what every system's sockaddr_un holds.
const maxSocketPath = 100

// SocketPath is where the server of a state directory and environment
// listens: stateDir/ENV/api.sock, or, since a socket's path may not be long, a
// name derived from it in a directory of the user's own under the system's
// temporary one.
func SocketPath(stateDir, env string) (string, error) {
	path, err := filepath.Abs(filepath.Join(stateDir, env, "api.sock"))
	if err != nil {
		return "", err
	}
	if len(path) <= maxSocketPath {
		return path, nil
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(filepath.Dir(path))); err == nil {
		path = filepath.Join(dir, env, "api.sock")
	}
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(os.TempDir(), "keystone-"+strconv.Itoa(os.Getuid()), hex.EncodeToString(sum[:12])+".sock"), nil
}

// ErrServerRuns says that another server answers on the socket.
var ErrServerRuns = errors.New("a server already runs here")

// ListenUnix listens on the socket, for this user alone. A socket that a
// killed server left behind is replaced; a living server's is not.
func ListenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := privateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if c, err := dialUnix(ctx, path); err == nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, ErrServerRuns), c.Close())
	}
	// The socket appears under its name only after its mode is set.
	temp := path + "." + strconv.Itoa(os.Getpid())
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", temp)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	err = os.Chmod(temp, 0o600)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	return &unixListener{Listener: l, path: path}, nil
}

// privateDir makes the directory for this user, and refuses someone else's.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return checkOwner(dir)
}

// unixListener removes the socket when it is closed.
type unixListener struct {
	net.Listener
	path string
	once sync.Once
	err  error
}

// Addr gives the name that the socket has now.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close closes once.
func (l *unixListener) Close() error {
	l.once.Do(func() { l.err = errors.Join(os.Remove(l.path), l.Listener.Close()) })
	return l.err
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", path)
}
