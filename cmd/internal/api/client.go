package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
)

// Control is what commands ask: a server, or stored state without one.
type Control interface {
	Status(ctx context.Context) (Status, error)
	StatusOf(ctx context.Context, a addr.Addr) (Status, error) // of one address, with its lanes
	Plan(ctx context.Context, goal *configs.Config, o PlanOptions) (Plan, error)
	Apply(ctx context.Context, goal *configs.Config, o ApplyOptions, progress func(ApplyEvent)) (ApplyResult, error)
	Tap(ctx context.Context, a addr.Addr, o TapOptions, emit func(TapEvent) error) error
	Operator
	Verifier
	Letters
	Backfiller
}

// ErrNoServer says that nothing listens where the server should be.
var ErrNoServer = errors.New("no server runs")

// Client asks a server.
type Client struct {
	http  *http.Client
	base  string
	where string // for messages
	goals Codec
}

// NewUnixClient asks the server on a socket.
func NewUnixClient(path string, goals Codec) *Client {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialUnix(ctx, path) }, MaxIdleConns: 1, IdleConnTimeout: time.Minute}
	return &Client{http: &http.Client{Transport: t}, base: "http://keystone", where: path, goals: goals}
}

// NewClient asks the server at a URL such as http://127.0.0.1:7070.
func NewClient(server string, goals Codec) (*Client, error) {
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not a server's URL, such as http://127.0.0.1:7070", server)
	}
	return &Client{http: &http.Client{Transport: &http.Transport{MaxIdleConns: 1, IdleConnTimeout: time.Minute, Proxy: nil}},
		base: strings.TrimSuffix(u.String(), "/"), where: u.Redacted(), goals: goals}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Version asks what the server is: also whether there is one.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var v Version
	return v, c.get(ctx, "/v1/version", &v)
}

// Status asks for the goal and the world.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	if err := c.get(ctx, "/v1/status", &s); err != nil {
		return s, err
	}
	return s, checkFormat(s.FormatVersion)
}

// StatusOf asks for one address, with the lanes of a route.
func (c *Client) StatusOf(ctx context.Context, a addr.Addr) (Status, error) {
	var s Status
	if err := c.get(ctx, "/v1/status?"+url.Values{"address": {a.String()}}.Encode(), &s); err != nil {
		return s, err
	}
	return s, checkFormat(s.FormatVersion)
}

// Plan asks what a goal would change.
func (c *Client) Plan(ctx context.Context, goal *configs.Config, o PlanOptions) (Plan, error) {
	var p Plan
	body, err := c.post(ctx, "/v1/plan", goal, o)
	if err != nil {
		return p, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&p); err != nil {
		return p, fmt.Errorf("read the plan from %s: %w", c.where, err)
	}
	return p, checkFormat(p.FormatVersion)
}

// Apply asks to bring a goal about.
func (c *Client) Apply(ctx context.Context, goal *configs.Config, o ApplyOptions, progress func(ApplyEvent)) (ApplyResult, error) {
	body, err := c.post(ctx, "/v1/apply", goal, o)
	if err != nil {
		return ApplyResult{}, err
	}
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var line applyLine
		if err := d.Decode(&line); err != nil {
			return ApplyResult{}, fmt.Errorf("the server at %s went away during the apply; `keystone status` tells how far it came: %w", c.where, err)
		}
		switch {
		case line.Error != nil:
			return ApplyResult{}, line.Error.err()
		case line.Result != nil:
			return *line.Result, nil
		case line.Event != nil:
			progress(*line.Event)
		}
	}
}

// Tap shows records as they pass, until ctx or emit ends it or the server does.
func (c *Client) Tap(ctx context.Context, a addr.Addr, o TapOptions, emit func(TapEvent) error) error {
	q := url.Values{"address": {a.String()}}
	if o.Limit > 0 {
		q.Set("limit", strconv.FormatInt(o.Limit, 10))
	}
	body, err := c.do(ctx, http.MethodGet, "/v1/tap?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var line tapLine
		if err := d.Decode(&line); err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("the server at %s went away: %w", c.where, err)
		}
		if line.Error != nil {
			return line.Error.err()
		}
		if line.Record != nil {
			if err := emit(*line.Record); err != nil {
				return err
			}
		}
	}
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	body, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("read %s from %s: %w", path, c.where, err)
	}
	return nil
}

func (c *Client) post(ctx context.Context, path string, goal *configs.Config, options any) (io.ReadCloser, error) {
	encoded, err := c.goals.Encode(goal)
	if err != nil {
		return nil, fmt.Errorf("write the goal: %w", err)
	}
	body, err := json.Marshal(goalRequest[any]{Goal: encoded, Options: options})
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	return c.do(ctx, http.MethodPost, path, body)
}

// do gives the body of a good answer, or the server's error.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%w at %s; start one with `keystone serve`", ErrNoServer, c.where)
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("the server at %s answers only the user that started it: run this as that user, or start the server with -listen and name it with -server", c.where)
		}
		return nil, fmt.Errorf("ask the server at %s: %w", c.where, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", c.where, err)
	}
	var e struct{ Error *errorBody }
	if json.Unmarshal(text, &e) == nil && e.Error != nil {
		return nil, e.Error.err()
	}
	return nil, fmt.Errorf("the server at %s answered %s: %s", c.where, resp.Status, strings.TrimSpace(string(text)))
}

// checkFormat refuses what a newer server of another major format sent.
func checkFormat(v string) error {
	major, _, _ := strings.Cut(v, ".")
	ours, _, _ := strings.Cut(FormatVersion, ".")
	if major != ours {
		return fmt.Errorf("the format is version %q and this program reads version %s; use the same version of keystone on both sides", v, FormatVersion)
	}
	return nil
}

// Local asks a backend in this process.
type Local struct {
	Backend Backend
	Version Version
}

// Status gives the goal and the world.
func (l Local) Status(ctx context.Context) (Status, error) {
	w, err := l.Backend.Status(ctx)
	return NewStatus(w, l.Version), err
}

// StatusOf gives one address, with the lanes of a route.
func (l Local) StatusOf(ctx context.Context, a addr.Addr) (Status, error) {
	w, err := l.Backend.Status(ctx)
	if err != nil {
		return Status{}, err
	}
	return NewStatusOf(w, l.Version, a)
}

// Plan tells what a goal would change.
func (l Local) Plan(ctx context.Context, goal *configs.Config, o PlanOptions) (Plan, error) {
	p, err := l.Backend.Plan(ctx, goal, o)
	return NewPlan(p), err
}

// Apply brings a goal about, or stores it.
func (l Local) Apply(ctx context.Context, goal *configs.Config, o ApplyOptions, progress func(ApplyEvent)) (ApplyResult, error) {
	return l.Backend.Apply(ctx, goal, o, progress)
}

// Tap shows records as they pass.
func (l Local) Tap(ctx context.Context, a addr.Addr, o TapOptions, emit func(TapEvent) error) error {
	return l.Backend.Tap(ctx, a, o, emit)
}
