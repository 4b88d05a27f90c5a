// Package configs turns HCL files into a checked configuration: it loads and
// evaluates (HCL → Resource), decodes by the declared options (Resource →
// typed blocks), and checks what blocks mean together. The planner and the
// runner use the same decoded model.
package configs

import (
	"time"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
	"keystone/sinks"
	"keystone/sources"
)

// Catalog is what kinds of sources and sinks there are.
type Catalog struct {
	Sources []sources.Kind
	Sinks   []sinks.Kind
}

// Config is a whole checked configuration of one namespace and environment.
type Config struct {
	Dir       string
	Env       string
	Settings  Settings
	Clusters  map[addr.Addr]*Cluster
	Streams   map[addr.Addr]*Stream
	Sources   map[addr.Addr]*Source
	Sinks     map[addr.Addr]*Sink
	Routes    map[addr.Addr]*Route
	Jobs      map[addr.Addr]*Job
	Moved     []Moved
	Removed   []Removed
	Secrets   *Secrets   // resolves secrets; nil in a configuration that comes from the store (see LoadSecrets)
	Resources []Resource // everything above but moved and removed, in address order: what is stored and compared
}

// Resource is one block instance as evaluated: the form that is stored with
// the goal state and from which the typed block is decoded again.
type Resource struct {
	Addr    addr.Addr         `json:"addr"`
	Kind    string            `json:"kind,omitempty"` // of a source or sink: file, kafka…
	Decl    diag.Range        `json:"decl"`
	Body    spec.Body         `json:"body"`
	Options map[string]Option `json:"-"` // by path ("delivery.guarantee"), after decoding, defaults included
}

// Option is the effective value of one option, for comparing and showing.
type Option struct {
	Canonical string // canonical text of the value: equal values have equal text; a secret's reference, never its value
	Effect    spec.Effect
	Layer     spec.Layer
	Range     diag.Range
	Sensitive bool
}

// Settings is the block keystone { }.
type Settings struct {
	RequiredVersion string
	Namespace       string // "default" unless said
	Listen          string // of the HTTP API; "" for the unix socket alone
	StateDir        string // ".keystone" unless said
}

// Cluster is a Kafka cluster.
type Cluster struct {
	Addr      addr.Addr
	Brokers   []string
	TLS       TLS
	SASL      SASL
	Embedded  bool // the broker inside this process, when no cluster is declared
	ClientID  string
	DialAfter time.Duration // dial timeout
}

// TLS is how a cluster is spoken to.
type TLS struct {
	Enabled    bool
	CA         spec.Secret // PEM
	Cert, Key  spec.Secret // PEM of a client certificate
	ServerName string
	SkipVerify bool
}

// SASL is how a client proves itself; Mechanism "" for none.
type SASL struct {
	Mechanism string // plain, scram_sha_256, scram_sha_512
	Username  spec.Secret
	Password  spec.Secret
}

// Stream is a topic.
type Stream struct {
	Addr        addr.Addr
	Description string
	Cluster     addr.Addr
	External    string // NAMESPACE.STREAM of another namespace
	Topic       string
	Managed     bool
	Partitions  int
	Replication int
	Retention   time.Duration // <0: for ever
	Config      map[string]string
	Key         diag.Text
	Schema      types.Type // Kind Any: none
	OnDestroy   string     // keep, delete
	Compression string
	Origin      bool // records get the header ks-origin
	MaxMessage  int64
}

// Source is a source block.
type Source struct {
	Addr   addr.Addr
	Kind   string
	Schema types.Type
	Config sources.Config
}

// Sink is a sink block.
type Sink struct {
	Addr   addr.Addr
	Kind   string
	Config sinks.Config
}

// Moved says that an address has a new name; what it kept goes along.
type Moved struct {
	From, To addr.Addr
	Range    diag.Range
}

// Removed says that an address leaves the configuration.
type Removed struct {
	From    addr.Addr
	Destroy bool
	Range   diag.Range
}
