package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"keystone/configs/addr"
	"keystone/pipeline/verify"
)

// Verifier compares what a route wrote with what it read.
type Verifier interface {
	// Verify judges records whose position is committed. It reads source, sink and dead letters
	// again and changes nothing; progress is called now and then from one goroutine.
	Verify(ctx context.Context, a addr.Addr, o VerifyOptions, progress func(VerifyProgress)) (VerifyReport, error)
}

// VerifyOptions say which records of the source to judge; they restrict one another.
type VerifyOptions struct {
	Since      time.Time `json:"since,omitzero"`
	Until      time.Time `json:"until,omitzero"`
	Partitions []int32   `json:"partitions,omitempty"`  // empty: all
	From       *int64    `json:"from_offset,omitempty"` // of each partition
	To         *int64    `json:"to_offset,omitempty"`   // the first that is not judged
	Limit      int64     `json:"limit,omitempty"`       // the newest of each partition; 0: all
	Rate       int64     `json:"rate,omitempty"`        // records read in a second; 0: as fast as it goes
}

// VerifyProgress says how far a verification is.
type VerifyProgress struct {
	Phase string `json:"phase"` // dead letters, source, open transactions, sink
	Pass  int    `json:"pass"`
	Read  int64  `json:"read"` // records, in this phase
}

// VerifyReport is the judgement.
type VerifyReport = verify.Report

// verifyRequest is what verify is asked with.
type verifyRequest struct {
	Address string `json:"address"`
	VerifyOptions
}

// verifyLine is one line of the answer; exactly one field is set.
type verifyLine struct {
	Progress *VerifyProgress `json:"progress,omitempty"`
	Report   *VerifyReport   `json:"report,omitempty"`
	Error    *errorBody      `json:"error,omitempty"`
}

func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	var req verifyRequest
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxHeaderBytes))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		s.refuse(w, &requestError{fmt.Errorf("read the request: %w", err)})
		return
	}
	a, err := addr.Parse(req.Address)
	if err != nil {
		s.refuse(w, &requestError{err})
		return
	}
	ctx, cancel := context.WithCancel(r.Context()) // whoever asked went away: nobody wants to know
	defer cancel()
	lines := newLines(w)
	report, err := s.Backend.Verify(ctx, a, req.VerifyOptions, func(p VerifyProgress) {
		if lines.write(verifyLine{Progress: &p}) != nil {
			cancel()
		}
	})
	last := verifyLine{Report: &report}
	if err != nil {
		last = verifyLine{Error: bodyOf(err)}
	}
	_ = lines.write(last)
}

// Verify asks to judge what a route wrote.
func (c *Client) Verify(ctx context.Context, a addr.Addr, o VerifyOptions, progress func(VerifyProgress)) (VerifyReport, error) {
	request, err := json.Marshal(verifyRequest{Address: a.String(), VerifyOptions: o})
	if err != nil {
		return VerifyReport{}, fmt.Errorf("write the request: %w", err)
	}
	body, err := c.do(ctx, http.MethodPost, "/v1/verify", request)
	if err != nil {
		return VerifyReport{}, err
	}
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var line verifyLine
		if err := d.Decode(&line); err != nil {
			return VerifyReport{}, fmt.Errorf("the server at %s went away during the verification: %w", c.where, err)
		}
		switch {
		case line.Error != nil:
			return VerifyReport{}, line.Error.err()
		case line.Report != nil:
			return *line.Report, checkFormat(line.Report.FormatVersion)
		case line.Progress != nil:
			progress(*line.Progress)
		}
	}
}

// Verify judges what a route wrote.
func (l Local) Verify(ctx context.Context, a addr.Addr, o VerifyOptions, progress func(VerifyProgress)) (VerifyReport, error) {
	return l.Backend.Verify(ctx, a, o, progress)
}
