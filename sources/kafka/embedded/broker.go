// Package embedded runs a Kafka broker inside this process, for
// demonstrations, development and tests. It is franz-go's kfake: one broker,
// no replication, no truncation. It proves nothing about those.
package embedded

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Options say where the broker listens and what it keeps.
type Options struct {
	Dir  string // where everything is kept; "" keeps it in memory, until Close
	Port int    // on 127.0.0.1; 0: that of the last time if it is free, else any
	// RetainBytes is what a partition keeps at most, unless its topic says
	// otherwise; the oldest go first. 0: 128 MiB on disk, 32 MiB in memory. <0: no bound.
	RetainBytes int64
	Log         *slog.Logger
	// Listen makes the listener in place of the operating system's: a virtual
	// network in tests. Nil outside of them.
	Listen func(network, address string) (net.Listener, error)
	// RetainEvery is how often the bound is applied; 10 s unless said.
	RetainEvery time.Duration
}

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	addrs   []string
	id      string
	lock    *os.File
	stop    chan struct{}
	work    sync.WaitGroup
	once    sync.Once
}

// InUseError says that another process runs a broker on the directory.
type InUseError struct{ Dir string }

// Error says what to do.
func (e *InUseError) Error() string {
	return fmt.Sprintf("the embedded broker's directory %s is in use by another process; stop that one, or use another state_dir or environment", e.Dir)
}

// Start starts a broker. What an earlier one kept in Dir is there again.
func Start(ctx context.Context, o Options) (*Broker, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := &Broker{stop: make(chan struct{})}
	retain := o.RetainBytes
	if retain == 0 {
		retain = 128 << 20
		if o.Dir == "" {
			retain = 32 << 20
		}
	}
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.WithLogger(logger{log})}
	if o.Listen != nil {
		opts = append(opts, kfake.ListenFn(o.Listen))
	}
	configs := map[string]string{
		"log.retention.bytes":        strconv.FormatInt(max(retain, -1), 10),
		"default.replication.factor": "1",
		"min.insync.replicas":        "1",
	}
	opts = append(opts, kfake.BrokerConfigs(configs))
	port := o.Port
	if o.Dir != "" {
		if err := b.claim(o.Dir); err != nil {
			return nil, err
		}
		id, err := clusterID(o.Dir)
		if err != nil {
			b.unlock()
			return nil, err
		}
		b.id = id
		opts = append(opts, kfake.DataDir(filepath.Join(o.Dir, "data")), kfake.SyncWrites())
		if port == 0 {
			port = lastPort(o.Dir)
		}
	} else {
		b.id = newID()
	}
	opts = append(opts, kfake.ClusterID(b.id))
	cluster, err := kfake.NewCluster(append(opts, kfake.Ports(port))...)
	if err != nil && port != o.Port && errors.Is(err, syscall.EADDRINUSE) {
		cluster, err = kfake.NewCluster(append(opts, kfake.Ports(o.Port))...)
	}
	if err != nil {
		b.unlock()
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("the embedded broker cannot listen on 127.0.0.1:%d, the port is in use; choose another: %w", port, err)
		}
		return nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	b.cluster, b.addrs = cluster, cluster.ListenAddrs()
	if o.Dir != "" {
		savePort(o.Dir, b.addrs[0], log)
	}
	log.Warn("the embedded broker is for demonstrations, development and tests, NOT FOR PRODUCTION: one process, no replication; declare a cluster to use Kafka",
		"brokers", strings.Join(b.addrs, ","), "kept_in", keptIn(o.Dir), "retain_bytes_per_partition", retain)
	every := o.RetainEvery
	if every <= 0 {
		every = 10 * time.Second
	}
	b.work.Go(func() { b.retain(every) })
	return b, nil
}

func keptIn(dir string) string {
	if dir == "" {
		return "memory"
	}
	return dir
}

// Addrs lists host:port of the broker.
func (b *Broker) Addrs() []string { return b.addrs }

// ClusterID is made once per directory; in memory, per start.
func (b *Broker) ClusterID() string { return b.id }

// Close stops the broker and writes down what it keeps.
func (b *Broker) Close() {
	b.once.Do(func() {
		close(b.stop)
		b.work.Wait()
		b.cluster.Close()
		b.unlock()
	})
}

// retain applies retention: the library does so by itself only on topics
// that set it.
func (b *Broker) retain(every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-t.C:
			b.cluster.ApplyRetention()
		}
	}
}

// claim takes the directory for this process. The lock goes with the process,
// however it ends.
func (b *Broker) claim(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("the embedded broker's directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("the embedded broker's directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return &InUseError{Dir: dir}
		}
		return fmt.Errorf("lock the embedded broker's directory %s: %w", dir, err)
	}
	b.lock = f
	return nil
}

func (b *Broker) unlock() {
	if b.lock != nil {
		b.lock.Close()
		b.lock = nil
	}
}

// clusterID reads the id of the directory's cluster, making it the first
// time. The library's own is the same everywhere, so positions of one cluster
// would pass for those of another.
func clusterID(dir string) (string, error) {
	path := filepath.Join(dir, "cluster-id")
	b, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(b))) > 0 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the embedded broker's cluster id: %w", err)
	}
	id := newID()
	if err := renameio.WriteFile(path, []byte(id+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("the embedded broker's cluster id: %w", err)
	}
	return id, nil
}

func newID() string {
	var b [11]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// lastPort gives the port of the last time, so that clients of a restarted
// broker find it again; 0 if there is none.
func lastPort(dir string) int {
	b, err := os.ReadFile(filepath.Join(dir, "port"))
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < 0 || n > 65535 {
		return 0
	}
	return n
}

func savePort(dir, addr string, log *slog.Logger) {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(dir, "port"), []byte(port+"\n"), 0o644)
	}
	if err != nil {
		log.Warn("the embedded broker will have another port next time", "error", err)
	}
}

type logger struct{ log *slog.Logger }

// Logf passes errors on; the rest is detail.
func (l logger) Logf(level kfake.LogLevel, msg string, args ...any) {
	to := slog.LevelDebug
	if level == kfake.LogLevelError {
		to = slog.LevelError
	}
	if l.log.Enabled(context.Background(), to) {
		l.log.Log(context.Background(), to, "embedded broker: "+fmt.Sprintf(msg, args...))
	}
}
