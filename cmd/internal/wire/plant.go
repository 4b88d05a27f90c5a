package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/spec"
	"keystone/pipeline"
	"keystone/sinks"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
	"keystone/sources/kafka/embedded"
)

// plant is what the routes of a process share: the embedded broker, producers,
// connections for administration, and the store of positions.
type plant struct {
	dir       string // of the configuration
	stateDir  string // of the environment
	ephemeral bool
	joins     bool // use the embedded broker of a server that runs already
	log       *slog.Logger
	pool      *client.Pool
	positions func(source, sink string) pipeline.Positions
	programs  programStore
	// generation tells how often a route was rewound or started anew; nil: it never is.
	generation func(context.Context, addr.Addr) (int64, error)
	slots      slots // of transactions
	// wrap gives what is written to instead of a block's sink; nil: that itself.
	wrap func(sinks.Sink, sinks.Deps) sinks.Sink

	mu      sync.Mutex // guards everything below; held while the broker starts
	broker  *embedded.Broker
	joined  []string // brokers of the server that is used
	admins  map[string]*admin.Admin
	secrets *configs.Secrets
}

func newPlant(cfg *configs.Config, log *slog.Logger) *plant {
	return &plant{
		dir: cfg.Dir, stateDir: cfg.StateDirPath(), log: log,
		pool: client.NewPool(), admins: map[string]*admin.Admin{}, secrets: cfg.Secrets,
	}
}

// use takes the secrets of the configuration that is about to run. A goal
// from the store has none: then they are read from the environment again.
func (p *plant) use(cfg *configs.Config) {
	s := cfg.Secrets
	if s == nil {
		s, _ = configs.LoadSecrets(configs.LoadOptions{Dir: cfg.Dir, Env: cfg.Env, Environ: os.Environ(), Catalog: Catalog()}) // what is missing is said where it is needed
	}
	if s == nil {
		return
	}
	p.mu.Lock()
	p.secrets = s
	p.mu.Unlock()
}

// resolve gives the value of a secret.
func (p *plant) resolve(s spec.Secret) (string, error) {
	if s.IsZero() {
		return "", nil
	}
	p.mu.Lock()
	secrets := p.secrets
	p.mu.Unlock()
	if secrets == nil {
		return "", errors.New("the configuration's files, which say where its secrets are, could not be read")
	}
	return secrets.Resolve(s)
}

// clientOptions says how to reach a cluster; it starts the embedded broker if it is that.
func (p *plant) clientOptions(ctx context.Context, c *configs.Cluster) (client.Options, error) {
	o := client.Options{Brokers: c.Brokers, ClientID: c.ClientID, DialTimeout: c.DialAfter, Log: p.log}
	if c.Embedded {
		brokers, err := p.brokers(ctx)
		o.Brokers = brokers
		return o, err
	}
	value := func(what string, s spec.Secret, err error) (string, error) {
		if err != nil {
			return "", err
		}
		v, err := p.resolve(s)
		if err != nil {
			return "", fmt.Errorf("%s of %s: %w", what, c.Addr, err)
		}
		return v, nil
	}
	if c.TLS.Enabled {
		ca, err := value("tls.ca", c.TLS.CA, nil)
		cert, err := value("tls.cert", c.TLS.Cert, err)
		key, err := value("tls.key", c.TLS.Key, err)
		if err != nil {
			return o, err
		}
		o.TLS = &client.TLS{CA: []byte(ca), Cert: []byte(cert), Key: []byte(key), ServerName: c.TLS.ServerName, SkipVerify: c.TLS.SkipVerify}
	}
	if c.SASL.Mechanism != "" {
		user, err := value("sasl.username", c.SASL.Username, nil)
		password, err := value("sasl.password", c.SASL.Password, err)
		if err != nil {
			return o, err
		}
		o.SASL = &client.SASL{Mechanism: c.SASL.Mechanism, Username: user, Password: password}
	}
	return o, nil
}

// brokers gives the embedded broker's addresses, starting it the first time.
func (p *plant) brokers(ctx context.Context) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.broker != nil:
		return p.broker.Addrs(), nil
	case p.joined != nil:
		return p.joined, nil
	}
	dir := filepath.Join(p.stateDir, "broker")
	o := embedded.Options{Dir: dir, Log: p.log}
	if p.ephemeral {
		o.Dir = ""
	}
	b, err := embedded.Start(ctx, o)
	var used *embedded.InUseError
	if errors.As(err, &used) && p.joins {
		if port, readErr := os.ReadFile(filepath.Join(dir, "port")); readErr == nil {
			p.joined = []string{net.JoinHostPort("127.0.0.1", strings.TrimSpace(string(port)))}
			return p.joined, nil
		}
	}
	if err != nil {
		return nil, err
	}
	p.broker = b
	return b.Addrs(), nil
}

// admin gives a connection for administering a cluster; it is kept and shared
// as long as the cluster is reached in the same way.
func (p *plant) admin(ctx context.Context, c *configs.Cluster) (*admin.Admin, error) {
	o, err := p.clientOptions(ctx, c)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := o.Key()
	if a := p.admins[key]; a != nil {
		return a, nil
	}
	a, err := admin.New(o)
	if err != nil {
		return nil, err
	}
	p.admins[key] = a
	return a, nil
}

// close frees what is shared; all routes have ended before.
func (p *plant) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.admins {
		a.Close()
	}
	if p.broker != nil {
		p.broker.Close()
	}
}
