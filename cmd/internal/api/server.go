package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
)

// Codec writes and reads a goal; the composition root has it, since decoding
// needs the catalog. Secrets stay references.
type Codec struct {
	Encode func(*configs.Config) ([]byte, error)
	Decode func([]byte) (*configs.Config, error)
}

// Server answers HTTP requests about a backend.
type Server struct {
	Backend Backend
	Version Version
	Goals   Codec
	Log     *slog.Logger
	// MaxGoalBytes bounds a request; 0 is 64 MiB: ten thousand routes take about 20.
	MaxGoalBytes int64
}

// Bounds of what a client may send and how long it may take.
const (
	maxGoalBytes   = 64 << 20
	maxHeaderBytes = 64 << 10
	headerTimeout  = 5 * time.Second
	writeTimeout   = 15 * time.Second // for one line of a stream, or one answer
	closeTimeout   = 3 * time.Second
)

// Handler gives everything that is served: the API, /metrics, /healthz, /readyz.
// guard decides who may ask; see ServeUnix and ServeTCP.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) { s.answer(w, s.Version) })
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("POST /v1/plan", s.plan)
	mux.HandleFunc("POST /v1/apply", s.apply)
	mux.HandleFunc("GET /v1/tap", s.tap)
	mux.HandleFunc("POST /v1/operate", s.operate)
	mux.HandleFunc("POST /v1/rewind", s.rewind)
	mux.HandleFunc("GET /v1/audit", s.audit)
	mux.HandleFunc("POST /v1/verify", s.verify)
	s.handleLetters(mux)
	s.handleBackfills(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", metricsHandler(s.Backend, s.Version))
	return mux
}

// ServeUnix serves a socket until ctx is done. Its file mode says who may
// connect, so no further question is asked.
func (s *Server) ServeUnix(ctx context.Context, l net.Listener) error {
	s.Log.Info("serving", "socket", l.Addr().String())
	return s.serve(ctx, l, s.Handler())
}

// ServeTCP serves a loopback address until ctx is done. A browser can be made
// to send requests there by any page it shows, so what comes under another
// name than the address, or from another origin, is refused.
func (s *Server) ServeTCP(ctx context.Context, l net.Listener) error {
	if err := CheckListen(l.Addr().String()); err != nil {
		return err
	}
	return s.serve(ctx, l, localOnly(s.Handler()))
}

func (s *Server) serve(ctx context.Context, l net.Listener, h http.Handler) error {
	requests, cancel := context.WithCancel(context.Background()) // streams end when the server does
	defer cancel()
	srv := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: maxHeaderBytes, IdleTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return requests }, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve the API: %w", err)
	case <-ctx.Done():
	}
	cancel()
	closing, stop := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer stop()
	if err := srv.Shutdown(closing); err != nil {
		_ = srv.Close() // what did not end in time is cut
	}
	<-failed
	return nil
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	world, err := s.Backend.Status(r.Context())
	if err != nil {
		s.refuse(w, err)
		return
	}
	name := r.URL.Query().Get("address")
	if name == "" {
		s.answer(w, NewStatus(world, s.Version))
		return
	}
	a, err := addr.Parse(name)
	if err != nil {
		s.refuse(w, &requestError{err})
		return
	}
	one, err := NewStatusOf(world, s.Version, a)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, one)
}

// ready tells that the world was observed once.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	world, err := s.Backend.Status(r.Context())
	switch {
	case err != nil:
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
	case world.Observed.At.IsZero():
		http.Error(w, "not ready: nothing was observed yet", http.StatusServiceUnavailable)
	default:
		_, _ = io.WriteString(w, "ok\n")
	}
}

// goalRequest is what plan and apply are asked with.
type goalRequest[O any] struct {
	Goal    json.RawMessage `json:"goal"`
	Options O               `json:"options"`
}

func readGoal[O any](s *Server, w http.ResponseWriter, r *http.Request) (*configs.Config, O, bool) {
	var req goalRequest[O]
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, cmp.Or(s.MaxGoalBytes, maxGoalBytes)))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		s.refuse(w, &requestError{fmt.Errorf("read the request: %w", err)})
		return nil, req.Options, false
	}
	goal, err := s.Goals.Decode(req.Goal)
	if err != nil {
		s.refuse(w, &requestError{fmt.Errorf("read the goal: %w", err)})
		return nil, req.Options, false
	}
	return goal, req.Options, true
}

func (s *Server) plan(w http.ResponseWriter, r *http.Request) {
	goal, o, ok := readGoal[PlanOptions](s, w, r)
	if !ok {
		return
	}
	p, err := s.Backend.Plan(r.Context(), goal, o)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, NewPlan(p))
}

// applyLine is one line of the answer to an apply; exactly one field is set.
type applyLine struct {
	Event  *ApplyEvent  `json:"event,omitempty"`
	Result *ApplyResult `json:"result,omitempty"`
	Error  *errorBody   `json:"error,omitempty"`
}

func (s *Server) apply(w http.ResponseWriter, r *http.Request) {
	goal, o, ok := readGoal[ApplyOptions](s, w, r)
	if !ok {
		return
	}
	lines := newLines(w)
	res, err := s.Backend.Apply(r.Context(), goal, o, func(e ApplyEvent) {
		_ = lines.write(applyLine{Event: &e}) // a client that left does not stop the apply
	})
	last := applyLine{Result: &res}
	if err != nil {
		last = applyLine{Error: bodyOf(err)}
	}
	_ = lines.write(last)
}

// tapLine is one line of a tap; exactly one field is set.
type tapLine struct {
	Record *TapEvent  `json:"record,omitempty"`
	Error  *errorBody `json:"error,omitempty"`
}

func (s *Server) tap(w http.ResponseWriter, r *http.Request) {
	a, err := addr.Parse(r.URL.Query().Get("address"))
	if err != nil {
		s.refuse(w, &requestError{err})
		return
	}
	var o TapOptions
	if text := r.URL.Query().Get("limit"); text != "" {
		if o.Limit, err = strconv.ParseInt(text, 10, 64); err != nil || o.Limit < 0 {
			s.refuse(w, &requestError{fmt.Errorf("limit %q is not a number of records", text)})
			return
		}
	}
	lines := newLines(w)
	if err := lines.open(); err != nil {
		return
	}
	err = s.Backend.Tap(r.Context(), a, o, func(e TapEvent) error { return lines.write(tapLine{Record: &e}) })
	if err != nil && r.Context().Err() == nil {
		_ = lines.write(tapLine{Error: bodyOf(err)})
	}
}

// lines is an answer of one JSON object a line, each sent at once.
type lines struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
}

func newLines(w http.ResponseWriter) *lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &lines{w: w, ctrl: http.NewResponseController(w)}
}

// open sends the header, so that the client knows that it is heard.
func (l *lines) open() error { return l.ctrl.Flush() }

func (l *lines) write(v any) error {
	if err := l.ctrl.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if err := json.NewEncoder(l.w).Encode(v); err != nil {
		return err
	}
	return l.ctrl.Flush()
}

func (s *Server) answer(w http.ResponseWriter, v any) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // a test's recorder has none
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.Log.Debug("answer not sent", "error", err)
	}
}

func (s *Server) refuse(w http.ResponseWriter, err error) {
	b := bodyOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(b.status())
	if err := json.NewEncoder(w).Encode(map[string]*errorBody{"error": b}); err != nil {
		s.Log.Debug("refusal not sent", "error", err)
	}
}
