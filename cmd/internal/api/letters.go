package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"keystone/pipeline/deadletter"
)

// Letters shows and handles the dead letters of routes.
type Letters interface {
	// LetterCounts counts the letters of every route that has or may have some.
	LetterCounts(ctx context.Context) ([]LetterSummary, error)
	// DeadLetters calls emit with the letters of a route that match, oldest
	// first per partition, and counts them.
	DeadLetters(ctx context.Context, q LetterQuery, emit func(DeadLetter) error) (LetterSummary, error)
	// Replay sends the original records of letters through their route as it
	// is now, or tells what that would do. When ctx ends, what is in flight is
	// finished; what was not replayed stays.
	Replay(ctx context.Context, o Replay, progress func(Replayed)) (Replayed, error)
	// Purge gives letters up, or tells what that would do.
	Purge(ctx context.Context, o Purge) (Purged, error)
}

// LetterQuery says which dead letters of a route are meant. What is left out restricts nothing.
type LetterQuery struct {
	Address string    `json:"address"`
	IDs     []string  `json:"ids,omitempty"`       // as DeadLetter.ID has them
	Part    *int32    `json:"partition,omitempty"` // of the dead-letter stream
	Offset  *int64    `json:"offset,omitempty"`    // in the dead-letter stream
	Codes   []string  `json:"codes,omitempty"`
	Since   time.Time `json:"since,omitzero"` // given up at that time or later
	Until   time.Time `json:"until,omitzero"` // given up before
	// Where is an expression over the original event. meta is that of the
	// original record; meta.headers also has the envelope's.
	Where string `json:"where,omitempty"`
	Limit int64  `json:"limit,omitempty"` // the first N that match
	Brief bool   `json:"brief,omitempty"` // without key, value and headers
	// Ends bounds the letters to those before, by place and partition: what a
	// plan gave is what is carried out.
	Ends map[string]map[int32]int64 `json:"ends,omitempty"`
}

// The states of a dead letter that is still there.
const (
	LetterWaiting  = "waiting"  // nobody did anything about it
	LetterReplayed = "replayed" // it went through its route again; what failed again is another letter
)

// DeadLetter is one letter with where it is and what became of it.
type DeadLetter struct {
	ID    string `json:"id"`    // PARTITION:OFFSET in the stream, or file:BYTE
	State string `json:"state"` // waiting, replayed
	Place string `json:"place"` // the topic or the file that it is in
	deadletter.Letter
}

// LetterSummary counts letters.
type LetterSummary struct {
	FormatVersion string        `json:"format_version"`
	Addr          string        `json:"address"`
	Places        []string      `json:"places"`  // topics and files that were read
	Letters       int64         `json:"letters"` // that matched
	Waiting       int64         `json:"waiting"`
	Replayed      int64         `json:"replayed"`
	Codes         []LetterCount `json:"codes"`
	Uncertain     int64         `json:"uncertain,omitempty"`       // not matched: the expression failed on them
	UncertainWhy  string        `json:"uncertain_error,omitempty"` // the first time
	Broken        int64         `json:"broken,omitempty"`          // records and lines that are no letters
	Error         string        `json:"error,omitempty"`           // why they could not be counted

	Ends map[string]map[int32]int64 `json:"ends,omitempty"` // how far was read, by place and partition
}

// LetterCount counts the letters of one code.
type LetterCount struct {
	Code     string `json:"code"`
	Letters  int64  `json:"letters"`
	Replayed int64  `json:"replayed,omitempty"`
}

// Count counts one letter.
func (s *LetterSummary) Count(code, state string) {
	s.Letters++
	i := 0
	for i < len(s.Codes) && s.Codes[i].Code != code {
		i++
	}
	if i == len(s.Codes) {
		s.Codes = append(s.Codes, LetterCount{Code: code})
	}
	s.Codes[i].Letters++
	if state == LetterReplayed {
		s.Codes[i].Replayed++
		s.Replayed++
	} else {
		s.Waiting++
	}
}

// Replay asks to send letters through their route again.
type Replay struct {
	LetterQuery
	Plan       bool   `json:"plan,omitempty"`        // only tell
	Again      bool   `json:"again,omitempty"`       // also those that were replayed
	MaxReplays int    `json:"max_replays,omitempty"` // records that were replayed so often are left alone
	Who        string `json:"who,omitempty"`
}

// DefaultMaxReplays is how often a record is replayed unless somebody says otherwise.
const DefaultMaxReplays = 5

// Replayed tells what a replay does, or did.
type Replayed struct {
	LetterSummary       // of the letters that are replayed
	Plan          bool  `json:"plan"`
	Skipped       int64 `json:"skipped"`   // replayed already
	Exhausted     int64 `json:"exhausted"` // replayed max_replays times
	Same          int64 `json:"same"`      // letters of a record that another letter of the replay has
	// Outcomes counts records: delivered, filtered, dropped, dead_lettered.
	Outcomes map[string]int64 `json:"outcomes,omitempty"`
	// Interrupted says that it ended before all were replayed, and why.
	Interrupted string   `json:"interrupted,omitempty"`
	Notes       []string `json:"notes,omitempty"`
}

// Done counts the records that have an outcome.
func (r Replayed) Done() (n int64) {
	for _, o := range r.Outcomes {
		n += o
	}
	return n
}

// Purge asks to give letters up.
type Purge struct {
	LetterQuery
	Plan bool   `json:"plan,omitempty"`
	Who  string `json:"who,omitempty"`
}

// Purged tells what a purge does, or did.
type Purged struct {
	LetterSummary      // of the letters that are given up
	Plan          bool `json:"plan"`
	// Deleted counts the letters whose bytes are gone. A topic gives only its
	// oldest records up: the others are marked, not shown any more, and deleted
	// with what comes before them.
	Deleted int64 `json:"deleted"`
}

// letterLine is one line of an answer; exactly one field is set.
type letterLine struct {
	Letter   *DeadLetter    `json:"letter,omitempty"`
	Summary  *LetterSummary `json:"summary,omitempty"`
	Progress *Replayed      `json:"progress,omitempty"`
	Replayed *Replayed      `json:"replayed,omitempty"`
	Error    *errorBody     `json:"error,omitempty"`
}

func (s *Server) handleLetters(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/dead-letters", s.letterCounts)
	mux.HandleFunc("POST /v1/dead-letters/list", s.letters)
	mux.HandleFunc("POST /v1/dead-letters/replay", s.replay)
	mux.HandleFunc("POST /v1/dead-letters/purge", s.purge)
}

func (s *Server) letterCounts(w http.ResponseWriter, r *http.Request) {
	counts, err := s.Backend.LetterCounts(r.Context())
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, counts)
}

func (s *Server) letters(w http.ResponseWriter, r *http.Request) {
	var q LetterQuery
	if !s.readRequest(w, r, &q) {
		return
	}
	out := newLines(w)
	sum, err := s.Backend.DeadLetters(r.Context(), q, func(l DeadLetter) error { return out.write(letterLine{Letter: &l}) })
	last := letterLine{Summary: &sum}
	if err != nil {
		last = letterLine{Error: bodyOf(err)}
	}
	_ = out.write(last)
}

func (s *Server) replay(w http.ResponseWriter, r *http.Request) {
	var o Replay
	if !s.readRequest(w, r, &o) {
		return
	}
	ctx, cancel := context.WithCancel(r.Context()) // whoever asked went away: the replay ends where it is
	defer cancel()
	out := newLines(w)
	done, err := s.Backend.Replay(ctx, o, func(p Replayed) {
		if out.write(letterLine{Progress: &p}) != nil {
			cancel()
		}
	})
	last := letterLine{Replayed: &done}
	if err != nil {
		last = letterLine{Error: bodyOf(err)}
	}
	_ = out.write(last)
}

func (s *Server) purge(w http.ResponseWriter, r *http.Request) {
	var o Purge
	if !s.readRequest(w, r, &o) {
		return
	}
	done, err := s.Backend.Purge(r.Context(), o)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, done)
}

// LetterCounts counts the letters of every route.
func (c *Client) LetterCounts(ctx context.Context) ([]LetterSummary, error) {
	var counts []LetterSummary
	return counts, c.get(ctx, "/v1/dead-letters", &counts)
}

// DeadLetters gives the letters of a route that match.
func (c *Client) DeadLetters(ctx context.Context, q LetterQuery, emit func(DeadLetter) error) (sum LetterSummary, err error) {
	err = c.letterLines(ctx, "list", q, func(l letterLine) (bool, error) {
		if l.Letter != nil {
			return false, emit(*l.Letter)
		}
		if l.Summary != nil {
			sum = *l.Summary
			return true, checkFormat(sum.FormatVersion)
		}
		return false, nil
	})
	return sum, err
}

// Replay sends letters through their route again.
func (c *Client) Replay(ctx context.Context, o Replay, progress func(Replayed)) (done Replayed, err error) {
	err = c.letterLines(ctx, "replay", o, func(l letterLine) (bool, error) {
		if l.Progress != nil {
			progress(*l.Progress)
		}
		if l.Replayed != nil {
			done = *l.Replayed
			return true, checkFormat(done.FormatVersion)
		}
		return false, nil
	})
	return done, err
}

// Purge gives letters up.
func (c *Client) Purge(ctx context.Context, o Purge) (Purged, error) {
	var done Purged
	if err := c.ask(ctx, "/v1/dead-letters/purge", o, &done); err != nil {
		return done, err
	}
	return done, checkFormat(done.FormatVersion)
}

// letterLines asks and calls f with each line until it is the last.
func (c *Client) letterLines(ctx context.Context, what string, request any, f func(letterLine) (last bool, err error)) error {
	b, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	body, err := c.do(ctx, http.MethodPost, "/v1/dead-letters/"+what, b)
	if err != nil {
		return err
	}
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var line letterLine
		if err := d.Decode(&line); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("the server at %s went away; what was done stays done: %w", c.where, err)
		}
		if line.Error != nil {
			return line.Error.err()
		}
		if last, err := f(line); last || err != nil {
			return err
		}
	}
}

// LetterCounts counts the letters of every route.
func (l Local) LetterCounts(ctx context.Context) ([]LetterSummary, error) {
	return l.Backend.LetterCounts(ctx)
}

// DeadLetters gives the letters of a route that match.
func (l Local) DeadLetters(ctx context.Context, q LetterQuery, emit func(DeadLetter) error) (LetterSummary, error) {
	return l.Backend.DeadLetters(ctx, q, emit)
}

// Replay sends letters through their route again.
func (l Local) Replay(ctx context.Context, o Replay, progress func(Replayed)) (Replayed, error) {
	return l.Backend.Replay(ctx, o, progress)
}

// Purge gives letters up.
func (l Local) Purge(ctx context.Context, o Purge) (Purged, error) { return l.Backend.Purge(ctx, o) }
