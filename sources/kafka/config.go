// Package kafka reads a topic as a member of a consumer group (Source), or
// without one: for who keeps the positions (Direct), or only looks (Tap).
//
// # Who owns what
//
// The client library has goroutines of its own that call back when
// partitions come and go. The poller, a goroutine of ours, takes what was
// fetched and files it under the lane of its partition. Read, on the
// worker's goroutine, hands it out. Commit runs on any goroutine.
//
// A lane is one ownership of one partition, from its assignment to its
// revocation. A partition that comes back is another lane, so nothing of the
// first can be taken for the second's.
//
// Locks: Source.mu guards the lanes and is never held across I/O or a call of
// the Listener. Source.calls is a token that makes calls of the Listener one
// at a time; mu may be taken while holding it, never the other way round.
package kafka

import (
	"log/slog"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sources"
	"keystone/sources/kafka/client"
)

// Config is what a route and its stream say of how the topic is read. The
// composition root fills it; no block decodes into it.
type Config struct {
	Client client.Options
	Topic  string
	Group  string
	// Instance is the name by which the group knows this member, over restarts
	// of the process; "" is none, and the group waits SessionTimeout for a
	// member that was killed. No two processes may have the same one.
	Instance string
	// Dead are names of members that this installation may have left in the group
	// and that no live process has: they are put out before joining.
	Dead []string
	// Stay is asked by Close: true keeps the member's place in the group for
	// one with the same Instance that opens at once. Nil is never.
	Stay func() bool
	// Start is earliest, latest or an RFC 3339 time. It counts once, for a
	// group that has committed nothing.
	Start string
	// AcceptNewTopic goes on although the topic was deleted and created again
	// since the group committed: from the beginning.
	AcceptNewTopic bool
	// StopOnDataLoss ends reading with sources.Fatal where records were removed
	// before they were read. Otherwise they are counted and reading goes on.
	StopOnDataLoss bool
	// Protocol is how the group shares partitions out; Classic unless said.
	Protocol      Protocol
	ReadCommitted bool // hides records of open and aborted transactions

	BatchBytes   int64         // of one batch; 1 MiB unless said. A larger record goes alone
	BatchRecords int           // of one batch; 8192 unless said
	Linger       time.Duration // how long Read waits for the first record; 100 ms unless said
	FetchBytes   int32         // of one answer of one broker; 16 MiB unless said
	FetchWait    time.Duration // how long a broker waits for the first byte; 5 s unless said

	SessionTimeout   time.Duration // after which the group gives a silent member up; 45 s unless said
	RebalanceTimeout time.Duration // in which a member must give partitions up; 60 s unless said
	// RevokeTimeout is how long a lane may finish and commit when its partition
	// is taken away; 15 s unless said, and less than RebalanceTimeout.
	RevokeTimeout time.Duration
}

// Protocol is how a group shares partitions out.
type Protocol string

// The protocols. A group changes its protocol only while it has no members.
const (
	// Classic is the protocol that every Kafka speaks; partitions are shared
	// out cooperatively and stay where they are as far as possible.
	Classic Protocol = "classic"
	// Consumer is that of KIP-848, where the broker shares out. It needs Kafka 4.0.
	Consumer Protocol = "consumer"
)

// Options declares nothing: streams and routes declare what is set here.
func (c *Config) Options() spec.Options { return nil }

// Bounded tells that reading never ends by itself.
func (c *Config) Bounded() bool { return false }

// Check reports what is missing or cannot be read.
func (c *Config) Check() diag.Diagnostics {
	var ds diag.Diagnostics
	if c.Topic == "" || len(c.Client.Brokers) == 0 || c.Group == "" {
		ds.Addf(diag.Range{}, codeIncomplete, "Stream without topic or brokers", "The stream needs a topic, its cluster needs brokers, and the route needs a group.")
	}
	if _, err := parseStart(c.Start); err != nil {
		ds.Addf(diag.Range{}, codeStart, "Invalid start", "%s.%s", err, diag.DidYouMean(c.Start, []string{"earliest", "latest"}))
	}
	return ds
}

// New makes the source; it does no I/O.
func (c *Config) New(d sources.Deps) (sources.Source, error) {
	if err := c.Check().Err(); err != nil {
		return nil, err
	}
	return c.source(d), nil
}

func (c Config) source(d sources.Deps) *Source {
	s := &Source{
		cfg:     c,
		log:     d.Log,
		lanes:   map[int32]*lane{},
		rewinds: map[int32]string{},
		ready:   make(chan struct{}, 1),
		hungry:  make(chan struct{}, 1),
		calls:   make(chan struct{}, 1),
		turn:    make(chan struct{}, 1),
		joined:  make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.cfg.defaults()
	return s
}

func (c *Config) defaults() {
	if c.BatchBytes <= 0 {
		c.BatchBytes = 1 << 20
	}
	if c.BatchRecords <= 0 {
		c.BatchRecords = 8192
	}
	if c.Linger <= 0 {
		c.Linger = 100 * time.Millisecond
	}
	if c.FetchBytes <= 0 {
		c.FetchBytes = 16 << 20
	}
	if c.FetchWait <= 0 {
		c.FetchWait = 5 * time.Second
	}
	if c.SessionTimeout <= 0 {
		c.SessionTimeout = 45 * time.Second
	}
	if c.RebalanceTimeout <= 0 {
		c.RebalanceTimeout = time.Minute
	}
	if c.RevokeTimeout <= 0 {
		c.RevokeTimeout = 15 * time.Second
	}
	// A member that is late is thrown out, with what it has not committed.
	c.RevokeTimeout = min(c.RevokeTimeout, c.RebalanceTimeout/2)
}
