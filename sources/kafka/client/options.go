// Package client has what everything that speaks to a Kafka cluster shares:
// how to reach it and prove who we are, whether it answers, how its errors
// are told to people, and the producers that many routes use together.
package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Options say how a cluster is reached. Secrets are resolved before they come
// here; no method and no error of this package shows one.
type Options struct {
	Brokers     []string // host:port, at least one
	ClientID    string   // seen in the brokers' logs and quotas; "keystone" unless said
	DialTimeout time.Duration
	TLS         *TLS  // nil: plain text
	SASL        *SASL // nil: no credentials
	// Dial makes connections in place of the operating system's: a virtual
	// network in tests. Nil outside of them.
	Dial func(ctx context.Context, network, host string) (net.Conn, error)
	Log  *slog.Logger // what the client library says, from warnings on; nil for nothing
}

// TLS is how connections are encrypted. All fields may be empty: then the
// system's authorities are trusted.
type TLS struct {
	CA         []byte // PEM of the authorities that are trusted instead
	Cert, Key  []byte // PEM of a client certificate
	ServerName string // expected in the broker's certificate in place of its host
	SkipVerify bool
}

// SASL is how a client proves itself.
type SASL struct {
	Mechanism string // plain, scram_sha_256, scram_sha_512
	Username  string
	Password  string
}

// String shows neither name nor password.
func (s *SASL) String() string {
	if s == nil {
		return "no credentials"
	}
	return s.Mechanism + " (sensitive value)"
}

// GoString shows neither name nor password.
func (s *SASL) GoString() string { return s.String() }

// String shows where the cluster is, and no secret.
func (o Options) String() string { return strings.Join(o.Brokers, ",") }

// GoString shows no secret.
func (o Options) GoString() string { return o.String() }

// key identifies equal options, so that one client can serve them all. It is
// a hash and gives no secret away. Dial is part of it by its presence only.
func (o Options) key() string {
	h := sha256.New()
	put := func(parts ...string) {
		for _, p := range parts {
			fmt.Fprintf(h, "%d:%s,", len(p), p)
		}
	}
	put(strings.Join(o.Brokers, "\x00"), o.ClientID, o.DialTimeout.String(), fmt.Sprint(o.Dial != nil))
	if o.TLS != nil {
		put("tls", string(o.TLS.CA), string(o.TLS.Cert), string(o.TLS.Key), o.TLS.ServerName, fmt.Sprint(o.TLS.SkipVerify))
	}
	if o.SASL != nil {
		put("sasl", o.SASL.Mechanism, o.SASL.Username, o.SASL.Password)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Key identifies options that reach a cluster in the same way. It gives no secret away.
func (o Options) Key() string { return o.key() }

// metadataMaxAge is how soon a partition that was added is found: what was
// written to it waits that long at most. The library's own is five minutes.
const metadataMaxAge = time.Minute

// Kgo gives the options of the client library. h hears how connecting goes.
func (o Options) Kgo(h *Health) ([]kgo.Opt, error) {
	if len(o.Brokers) == 0 {
		return nil, errors.New("no brokers are given")
	}
	id := o.ClientID
	if id == "" {
		id = "keystone"
	}
	timeout := o.DialTimeout
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...),
		kgo.ClientID(id),
		kgo.SoftwareNameAndVersion("keystone", "1"),
		kgo.DisableClientMetrics(),
		kgo.MetadataMaxAge(metadataMaxAge),
		kgo.MaxDecompressBatchBytes(256 << 20),
		kgo.WithHooks(h),
	}
	if o.Log != nil {
		opts = append(opts, kgo.WithLogger(logger{o.Log}))
	}
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: timeout}).DialContext
	}
	if o.TLS != nil {
		conf, err := o.TLS.config()
		if err != nil {
			return nil, err
		}
		plainDial := dial
		dial = func(ctx context.Context, network, host string) (net.Conn, error) {
			return dialTLS(ctx, plainDial, conf, timeout, network, host)
		}
	}
	opts = append(opts, kgo.Dialer(dial))
	if o.SASL != nil {
		m, err := o.SASL.mechanism()
		if err != nil {
			return nil, err
		}
		opts = append(opts, m)
	}
	return opts, nil
}

// dialTLS bounds the handshake too: a plain listener never answers one.
func dialTLS(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), conf *tls.Config, timeout time.Duration, network, host string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := dial(ctx, network, host)
	if err != nil {
		return nil, err
	}
	c := conf.Clone()
	if c.ServerName == "" {
		if c.ServerName, _, err = net.SplitHostPort(host); err != nil {
			c.ServerName = host
		}
	}
	t := tls.Client(conn, c)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error says more
		return nil, &HandshakeError{Err: err}
	}
	return t, nil
}

// HandshakeError is a TLS handshake that failed.
type HandshakeError struct{ Err error }

// Error gives the cause.
func (e *HandshakeError) Error() string { return "TLS handshake: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *HandshakeError) Unwrap() error { return e.Err }

func (t *TLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.SkipVerify} //nolint:gosec // the user's choice, off by default
	if len(t.CA) > 0 {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(t.CA) {
			return nil, errors.New("tls.ca has no certificate in PEM form")
		}
	}
	if len(t.Cert) > 0 || len(t.Key) > 0 {
		pair, err := tls.X509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert and tls.key are not a pair in PEM form: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func (s *SASL) mechanism() (kgo.Opt, error) {
	switch s.Mechanism {
	case "plain":
		return kgo.SASL(plain.Auth{User: s.Username, Pass: s.Password}.AsMechanism()), nil
	case "scram_sha_256":
		return kgo.SASL(scram.Auth{User: s.Username, Pass: s.Password}.AsSha256Mechanism()), nil
	case "scram_sha_512":
		return kgo.SASL(scram.Auth{User: s.Username, Pass: s.Password}.AsSha512Mechanism()), nil
	}
	return nil, fmt.Errorf("there is no SASL mechanism %q; use plain, scram_sha_256 or scram_sha_512", s.Mechanism)
}

// logger passes on what the library warns of; it names brokers and topics, never credentials.
type logger struct{ log *slog.Logger }

// Level is what the library need not format below.
func (l logger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelWarn
}

// Log passes one message on. The library calls warnings what it retries by
// itself, so none of them is more than information here.
func (l logger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelDebug
	if level <= kgo.LogLevelWarn {
		to = slog.LevelInfo
	}
	l.log.Log(context.Background(), to, "kafka client: "+msg, keyvals...)
}
