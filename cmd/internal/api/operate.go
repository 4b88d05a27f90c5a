package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"keystone/reconcile"
)

// Operator carries out what people ask of routes beside the goal. What it did
// is in the audit. Every method may be called again after a crash or an error.
type Operator interface {
	// Operate pauses, resumes, drains or restarts routes, or tells what that would do.
	Operate(ctx context.Context, o Operate) (Operated, error)
	// Rewind has a route go on elsewhere in its source, or tells what that would
	// do. What was begun is completed also when the caller goes away or the server is killed.
	Rewind(ctx context.Context, o Rewind) (Rewound, error)
	// Audit gives the latest lines of the audit, newest first.
	Audit(ctx context.Context, limit int) ([]AuditLine, error)
}

// Verb is what is asked of routes.
type Verb string

// The verbs of Operate.
const (
	Pause   Verb = "pause"   // stop reading; the worker keeps its partitions
	Resume  Verb = "resume"  // end pause and drain
	Drain   Verb = "drain"   // finish what is in flight and stop the worker
	Restart Verb = "restart" // finish what is in flight and start again; ends drain
)

// Operate asks a verb of routes.
type Operate struct {
	Verb Verb `json:"verb"`
	// Addresses are those of routes; without its key, every instance of a block; with *, all that match.
	Addresses []string `json:"addresses,omitempty"`
	All       bool     `json:"all,omitempty"`  // every route
	Plan      bool     `json:"plan,omitempty"` // only tell
	Who       string   `json:"who,omitempty"`
	// AcceptNewTopic, of Restart, drops the positions in a topic that was
	// deleted and created again: the new one is read from its beginning.
	AcceptNewTopic bool `json:"accept_new_topic,omitempty"`
}

// Operated tells what a verb does, or did, to each route, in address order.
type Operated struct {
	FormatVersion string      `json:"format_version"`
	Verb          Verb        `json:"verb"`
	Plan          bool        `json:"plan"`
	Offline       bool        `json:"offline,omitempty"` // nothing runs: it counts when the server starts
	Routes        []Operation `json:"routes"`
}

// Operation is a verb at one route.
type Operation struct {
	Addr  string   `json:"address"`
	Now   string   `json:"now"`             // how it was found
	Does  string   `json:"does,omitempty"`  // what the verb does to it; "" if nothing is to do
	Notes []string `json:"notes,omitempty"` // what becomes of data
	Loses []string `json:"loses,omitempty"` // what is lost for good
	Error string   `json:"error,omitempty"` // why it was not done
}

// Due counts the routes to which the verb does something.
func (o Operated) Due() int {
	n := 0
	for _, r := range o.Routes {
		if r.Does != "" {
			n++
		}
	}
	return n
}

// Failed counts the routes where it was not done.
func (o Operated) Failed() int {
	n := 0
	for _, r := range o.Routes {
		if r.Error != "" {
			n++
		}
	}
	return n
}

// AuditLine is one line of the audit.
type AuditLine struct {
	Time   time.Time `json:"time"`
	Who    string    `json:"who"`
	Action string    `json:"action"`
	Addr   string    `json:"address,omitempty"`
	Serial int64     `json:"serial,omitempty"` // of the goal then
	Detail string    `json:"detail,omitempty"`
}

// NewAudit gives the shown form.
func NewAudit(es []reconcile.AuditEntry) []AuditLine {
	out := make([]AuditLine, len(es))
	for i, e := range es {
		out[i] = AuditLine(e)
	}
	return out
}

// maxAudit bounds the lines of one answer: it is what the store keeps.
const maxAudit = 10_000

func (s *Server) operate(w http.ResponseWriter, r *http.Request) {
	var o Operate
	if !s.readRequest(w, r, &o) {
		return
	}
	switch o.Verb {
	case Pause, Resume, Drain, Restart:
	default:
		s.refuse(w, &requestError{fmt.Errorf("there is no verb %q; they are pause, resume, drain and restart", o.Verb)})
		return
	}
	done, err := s.Backend.Operate(r.Context(), o)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, done)
}

func (s *Server) audit(w http.ResponseWriter, r *http.Request) {
	limit := maxAudit
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			s.refuse(w, &requestError{fmt.Errorf("limit %q is not a number of lines", text)})
			return
		}
		limit = min(n, maxAudit)
	}
	lines, err := s.Backend.Audit(r.Context(), limit)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, lines)
}

// readRequest reads a small request, or refuses it.
func (s *Server) readRequest(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		s.refuse(w, &requestError{fmt.Errorf("read the request: %w", err)})
		return false
	}
	return true
}

// maxRequestBytes bounds a request that holds no goal: ten thousand addresses fit.
const maxRequestBytes = 4 << 20

// Operate asks a verb of routes.
func (c *Client) Operate(ctx context.Context, o Operate) (Operated, error) {
	var done Operated
	if err := c.ask(ctx, "/v1/operate", o, &done); err != nil {
		return done, err
	}
	return done, checkFormat(done.FormatVersion)
}

// Audit asks for the latest lines of the audit, newest first.
func (c *Client) Audit(ctx context.Context, limit int) ([]AuditLine, error) {
	var lines []AuditLine
	return lines, c.get(ctx, "/v1/audit?limit="+strconv.Itoa(limit), &lines)
}

// ask posts a small request and reads the answer.
func (c *Client) ask(ctx context.Context, path string, request, into any) error {
	b, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	body, err := c.do(ctx, http.MethodPost, path, b)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("read %s from %s: %w", path, c.where, err)
	}
	return nil
}

// Operate asks a verb of routes.
func (l Local) Operate(ctx context.Context, o Operate) (Operated, error) {
	return l.Backend.Operate(ctx, o)
}

// Audit gives the latest lines of the audit, newest first.
func (l Local) Audit(ctx context.Context, limit int) ([]AuditLine, error) {
	return l.Backend.Audit(ctx, limit)
}
