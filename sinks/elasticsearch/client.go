package elasticsearch

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	es "github.com/elastic/go-elasticsearch/v8"

	"keystone/configs/spec"
	"keystone/sinks"
)

// client speaks to the nodes of a cluster. The library chooses the node and leaves out those that
// it could not reach; it repeats nothing by itself: what may be repeated is the caller's knowledge.
type client struct {
	base  *es.BaseClient
	http  *http.Transport
	nodes int
	how   string // the options of auth in use, for messages
}

// connect makes a client; it does no I/O beside resolving secrets.
func connect(c *Config, resolve func(spec.Secret) (string, error)) (*client, error) {
	var failed error
	value := func(what string, s spec.Secret) string {
		if s.IsZero() || failed != nil {
			return ""
		}
		v, err := resolve(s)
		if err == nil && v == "" {
			err = errors.New("it is empty")
		}
		if err != nil {
			failed = fmt.Errorf("%s: %w", what, err)
		}
		return v
	}
	conf := es.Config{
		Addresses: c.URLs, DisableRetry: true, // Perform goes to one node, once
		Username: value("auth.username", c.Auth.Username), Password: value("auth.password", c.Auth.Password),
		APIKey: value("auth.api_key", c.Auth.APIKey), ServiceToken: value("auth.token", c.Auth.Token),
		DisableMetaHeader: true,
	}
	out := &client{nodes: len(c.URLs)}
	switch {
	case conf.APIKey != "":
		out.how = "auth.api_key"
	case conf.ServiceToken != "":
		out.how = "auth.token"
	case conf.Username != "":
		out.how = "auth.username and auth.password"
	}
	tlsConf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.TLS.ServerName, InsecureSkipVerify: c.TLS.SkipVerify} //nolint:gosec // the user's choice, off by default
	if ca := value("tls.ca", c.TLS.CA); ca != "" {
		tlsConf.RootCAs = x509.NewCertPool()
		if !tlsConf.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("tls.ca has no certificate in PEM form")
		}
	}
	cert, key := value("tls.cert", c.TLS.Cert), value("tls.key", c.TLS.Key)
	if failed != nil {
		return nil, failed
	}
	if cert != "" {
		pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			return nil, fmt.Errorf("tls.cert and tls.key are not a pair in PEM form: %w", err)
		}
		tlsConf.Certificates = []tls.Certificate{pair}
	}
	out.http = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: c.DialTimeout}).DialContext,
		TLSHandshakeTimeout:   c.DialTimeout,
		TLSClientConfig:       tlsConf,
		MaxIdleConnsPerHost:   c.Concurrency,
		DisableCompression:    true, // answers are short
		ExpectContinueTimeout: 0,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        16 << 10,
	}
	conf.Transport = out.http
	var err error
	if out.base, err = es.NewBaseClient(conf); err != nil {
		return nil, err
	}
	return out, nil
}

// close frees the connections.
func (c *client) close(ctx context.Context) {
	_ = c.base.Close(ctx) // it waits for nobody's request
	c.http.CloseIdleConnections()
}

// request is one request; it may go to several nodes, one after the other.
type request struct {
	method, path, query string
	media               string // of the body; "": lines of JSON
	packed              bool   // with gzip
	length              int64
	body                func() io.Reader // nil: none
}

// failure is a request that got no whole answer.
type failure struct {
	node string // who was asked last
	sent bool   // it may have taken effect
	err  error
}

func (f *failure) Error() string { return f.node + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// do sends a request and gives status and body of the answer. Where a node cannot be
// connected to, another one is asked at once. The error is a *failure.
func (c *client) do(ctx context.Context, r request, into *bytes.Buffer) (node string, status int, err error) {
	for try := 0; ; try++ {
		var loan loan
		var req *http.Request
		if req, err = r.make(ctx, &loan); err != nil {
			return "", 0, &failure{err: err}
		}
		var res *http.Response
		res, err = c.base.Perform(req)
		node = req.URL.Scheme + "://" + req.URL.Host
		if err != nil {
			loan.end()
			unsent := undialed(err)
			if unsent && try+1 < c.nodes && ctx.Err() == nil {
				continue
			}
			return node, 0, &failure{node, !unsent, short(err)}
		}
		into.Reset()
		_, err = into.ReadFrom(io.LimitReader(res.Body, maxAnswer+1))
		_ = res.Body.Close()
		loan.end()
		if err == nil && into.Len() > maxAnswer {
			err = fmt.Errorf("the answer is longer than %d MiB", maxAnswer>>20)
		}
		if err != nil {
			return node, 0, &failure{node, true, fmt.Errorf("the answer broke off: %w", short(err))}
		}
		return node, res.StatusCode, nil
	}
}

// maxAnswer bounds an answer: one that refuses each of a million documents is shorter.
const maxAnswer = 512 << 20

// loan is the memory of a request's body. net/http may still read it when the answer is there, or when the
// request was given up; after end it does no more, and the memory may serve something else.
type loan struct {
	mu   sync.Mutex // guards over, and is held while the body is read
	over bool
}

func (l *loan) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

// lent is a body that is on loan.
type lent struct {
	*loan
	io.Reader
}

// Read gives bytes while the loan lasts.
func (b lent) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, errors.New("the request is over")
	}
	return b.Reader.Read(p)
}

func (r *request) make(ctx context.Context, l *loan) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		body = lent{l, r.body()}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.path, body)
	if err != nil {
		return nil, err
	}
	req.URL.RawQuery = r.query
	if r.body != nil {
		req.ContentLength = r.length
		req.Header.Set("Content-Type", cmp.Or(r.media, "application/x-ndjson"))
		// So that net/http itself repeats what it could not write onto a connection that the node had closed.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(lent{l, r.body()}), nil }
	}
	if r.packed {
		req.Header.Set("Content-Encoding", "gzip")
	}
	return req, nil
}

// undialed tells that no connection was made, so that nothing was asked.
func undialed(err error) bool {
	var op *net.OpError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var verify *tls.CertificateVerificationError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &verify)
}

// short takes the method and the URL out of an error of net/http, since node says where it happened.
func short(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// serverError is what Elasticsearch says in an answer that refuses a whole request.
type serverError struct {
	Type   string
	Reason string
}

// said reads such an answer; ok is false where it is not Elasticsearch that speaks.
func said(body []byte) (e serverError, ok bool) {
	var x struct{ Error json.RawMessage }
	if json.Unmarshal(body, &x) != nil || len(x.Error) == 0 {
		return e, false
	}
	var cause itemError
	if json.Unmarshal(x.Error, &cause) == nil && cause.Type != "" {
		return serverError{cause.Type, cause.text()}, true
	}
	var text string
	if json.Unmarshal(x.Error, &text) == nil {
		return serverError{"error", text}, true
	}
	return e, false
}

// check asks who is there.
func (c *client) check(ctx context.Context) error {
	var body bytes.Buffer
	node, status, err := c.do(ctx, request{method: http.MethodGet, path: "/"}, &body)
	if err != nil {
		if strings.Contains(err.Error(), "unknown product") {
			return sinks.Permanent{Err: fmt.Errorf("%s is not Elasticsearch: its answers lack the header X-Elastic-Product", node)}
		}
		return c.explain(err)
	}
	switch {
	case status == http.StatusUnauthorized:
		return c.refused(node, status, body.Bytes())
	case status == http.StatusForbidden: // asking for the version is a privilege of its own, which writing does not need
		return nil
	case status != http.StatusOK:
		return fmt.Errorf("%s answers %s", node, phrase(status, body.Bytes()))
	}
	var info struct {
		Version struct{ Number string }
	}
	if err := json.Unmarshal(body.Bytes(), &info); err != nil {
		return fmt.Errorf("%s answers what is no JSON: %w", node, err)
	}
	major, _, _ := strings.Cut(info.Version.Number, ".")
	if n, err := strconv.Atoi(major); err != nil || n < 7 {
		return sinks.Permanent{Err: fmt.Errorf("%s is Elasticsearch %q; 7.17 or later is needed", node, info.Version.Number)}
	}
	return nil
}

// refused is the error that stops the route: the credentials do not do.
func (c *client) refused(node string, status int, body []byte) error {
	hint := "it wants credentials: write auth { api_key = env(\"…\") }, or username and password, or a token"
	switch {
	case status == http.StatusForbidden && c.how != "":
		hint = "give the user or key of " + c.how + " the privileges to write (index, create_index where indices are made as needed), or use others"
	case status == http.StatusForbidden:
		hint = "it does not let anybody write without credentials"
	case c.how != "":
		hint = "check " + c.how
	}
	return sinks.Permanent{Err: fmt.Errorf("%s refuses the credentials (%s); %s", node, phrase(status, body), hint)}
}

// explain says what may be done about a request that failed.
func (c *client) explain(err error) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; set tls.ca to the authority's certificate", err)
	case errors.As(err, &host):
		return fmt.Errorf("%w; set tls.server_name if only the name differs", err)
	case errors.As(err, &record):
		return fmt.Errorf("%w; it may speak plain http", err)
	}
	return err
}

// phrase is a status with what the server said.
func phrase(status int, body []byte) string {
	text := strconv.Itoa(status)
	if e, ok := said(body); ok {
		return text + " " + e.Type + ": " + e.Reason
	}
	if name := http.StatusText(status); name != "" {
		text += " " + name
	}
	return text
}
