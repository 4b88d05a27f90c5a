package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"keystone/reconcile"
)

// Backfiller runs routes over the warehouse.
type Backfiller interface {
	// Backfill begins a backfill, or tells what one would read.
	Backfill(ctx context.Context, o Backfill) (Backfilling, error)
	// Backfills gives the latest backfill of each route.
	Backfills(ctx context.Context) ([]Backfilling, error)
	// SteerBackfill pauses, resumes or cancels the backfill of a route.
	SteerBackfill(ctx context.Context, o Steer) (Backfilling, error)
}

// Backfill asks that a route's program runs over a source, too.
type Backfill struct {
	Address string    `json:"address"` // of the route
	From    string    `json:"from"`    // of the source
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Rate    int64     `json:"rate,omitempty"` // rows a second at most
	Then    string    `json:"then,omitempty"` // "live": the route goes on where the rows end
	Cut     time.Time `json:"cut,omitzero"`   // with Then: what divides rows and records
	Plan    bool      `json:"plan,omitempty"`
	Who     string    `json:"who,omitempty"`
}

// The verbs of backfills.
const (
	BackfillPause  = "pause"
	BackfillResume = "resume"
	BackfillCancel = "cancel"
)

// Steer asks something of the backfill of a route.
type Steer struct {
	Address string `json:"address"`
	Verb    string `json:"verb"`
	Who     string `json:"who,omitempty"`
}

// Backfilling is a backfill, and how it stands.
type Backfilling struct {
	FormatVersion string `json:"format_version"`
	Addr          string `json:"address"`
	reconcile.Backfill
	Activity string   `json:"activity,omitempty"` // what it does: reading, yielding to the route
	LeftMs   int64    `json:"left_ms,omitempty"`  // at the rate that it had so far, or may have; 0: not known
	Notes    []string `json:"notes,omitempty"`    // of a plan: what it means
}

func (s *Server) handleBackfills(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/backfill", func(w http.ResponseWriter, r *http.Request) {
		var o Backfill
		if s.readRequest(w, r, &o) {
			b, err := s.Backend.Backfill(r.Context(), o)
			s.reply(w, b, err)
		}
	})
	mux.HandleFunc("POST /v1/backfill/steer", func(w http.ResponseWriter, r *http.Request) {
		var o Steer
		if s.readRequest(w, r, &o) {
			b, err := s.Backend.SteerBackfill(r.Context(), o)
			s.reply(w, b, err)
		}
	})
	mux.HandleFunc("GET /v1/backfills", func(w http.ResponseWriter, r *http.Request) {
		list, err := s.Backend.Backfills(r.Context())
		s.reply(w, list, err)
	})
}

func (s *Server) reply(w http.ResponseWriter, v any, err error) {
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, v)
}

// Backfill begins a backfill, or tells what one would read.
func (c *Client) Backfill(ctx context.Context, o Backfill) (b Backfilling, err error) {
	if err := c.ask(ctx, "/v1/backfill", o, &b); err != nil {
		return b, err
	}
	return b, checkFormat(b.FormatVersion)
}

// Backfills gives the latest backfill of each route.
func (c *Client) Backfills(ctx context.Context) (list []Backfilling, err error) {
	return list, c.get(ctx, "/v1/backfills", &list)
}

// SteerBackfill pauses, resumes or cancels the backfill of a route.
func (c *Client) SteerBackfill(ctx context.Context, o Steer) (b Backfilling, err error) {
	if err := c.ask(ctx, "/v1/backfill/steer", o, &b); err != nil {
		return b, err
	}
	return b, checkFormat(b.FormatVersion)
}

// ErrNoBackfill says that a route has no backfill that could be steered.
func ErrNoBackfill(route, verb string) error {
	return fmt.Errorf("%w: %s has no backfill under way, so there is nothing to %s", ErrUnsupported, route, verb)
}

// Backfill begins a backfill, or tells what one would read.
func (l Local) Backfill(ctx context.Context, o Backfill) (Backfilling, error) {
	return l.Backend.Backfill(ctx, o)
}

// Backfills gives the latest backfill of each route.
func (l Local) Backfills(ctx context.Context) ([]Backfilling, error) {
	return l.Backend.Backfills(ctx)
}

// SteerBackfill pauses, resumes or cancels the backfill of a route.
func (l Local) SteerBackfill(ctx context.Context, o Steer) (Backfilling, error) {
	return l.Backend.SteerBackfill(ctx, o)
}
