package elasticsearch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"keystone/sinks"
)

// result is the outcome of one item.
type result struct {
	ok      bool
	outcome sinks.Outcome
	code    string
	err     error
	index   string // of action create, where there is a conflict: the index itself, behind an alias or data stream
}

// again tells whether the item is to be written again.
func (r *result) again() bool {
	return !r.ok && (r.outcome == sinks.Retryable || r.outcome == sinks.Unknown)
}

// trial is what came of a bulk.
type trial struct {
	results   []result // of each item; nil: all were applied
	permanent error    // the route has to stop
	overload  bool     // the cluster refused work for being too much
	timed     bool     // it was one request, and answered
}

func all(n int, r result) []result {
	out := make([]result, n)
	for i := range out {
		out[i] = r
	}
	return out
}

// itemAnswer is what the cluster says of one item.
type itemAnswer struct {
	Status int        `json:"status"`
	Index  string     `json:"_index"`
	Error  *itemError `json:"error"`
}

type itemError struct {
	Type     string     `json:"type"`
	Reason   string     `json:"reason"`
	CausedBy *itemError `json:"caused_by"`
}

// text is the reason with the one behind it.
func (e *itemError) text() string {
	text := clip(e.Reason)
	if c := e.CausedBy; c != nil && c.Reason != "" && !strings.Contains(e.Reason, c.Reason) {
		text += " (" + clip(c.Reason) + ")"
	}
	return text
}

// clip bounds what a server says: it may repeat the document.
func clip(s string) string {
	const most = 2000
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// try sends a bulk once, in parts where it is too large as a whole or refused as a whole.
func (s *Sink) try(b *bulk) trial {
	if s.ctx.Err() != nil {
		return trial{results: all(b.count, result{outcome: sinks.Retryable, code: "closed", err: errClosed})}
	}
	body := s.recent.get()
	defer s.recent.put(body)
	node, status, err := s.post(b, body)
	if err != nil {
		return trial{results: all(b.count, s.unanswered(err))}
	}
	text := body.Bytes()
	if status == http.StatusOK {
		return s.read(b, node, text)
	}
	return s.refusedWhole(b, node, status, text)
}

// refusedWhole is what becomes of a bulk whose answer says nothing of its items.
func (s *Sink) refusedWhole(b *bulk, node string, status int, text []byte) trial {
	whole := func(o sinks.Outcome, code string) trial {
		err := fmt.Errorf("elasticsearch: %s answers %s", node, phrase(status, text))
		return trial{results: all(b.count, result{outcome: o, code: code, err: err}), overload: status == http.StatusTooManyRequests}
	}
	e, genuine := said(text)
	code := e.Type
	if !genuine {
		code = fmt.Sprintf("http_%d", status)
	}
	switch {
	case status == http.StatusUnauthorized:
		return trial{results: whole(sinks.Retryable, code).results, permanent: s.client.refused(node, status, text)}
	case status == http.StatusForbidden && e.Type != clusterBlock:
		return trial{results: whole(sinks.Retryable, code).results, permanent: s.client.refused(node, status, text)}
	case status == http.StatusRequestEntityTooLarge && b.count > 1:
		s.shrink(b.bytes, node)
		return s.split(b)
	case status == http.StatusRequestEntityTooLarge:
		return whole(sinks.Rejected, "too_large")
	case status == http.StatusBadRequest && genuine && b.count > 1:
		return s.split(b) // one of them is at fault, and it does not say which
	case status == http.StatusBadRequest && genuine:
		return whole(sinks.Rejected, code)
	case status == http.StatusInternalServerError, status == http.StatusBadGateway, status == http.StatusGatewayTimeout, status < 300:
		return whole(sinks.Unknown, code) // who answers does not know what became of it
	}
	return whole(sinks.Retryable, code)
}

const clusterBlock = "cluster_block_exception"

func (s *Sink) post(b *bulk, answer *bytes.Buffer) (node string, status int, err error) {
	ctx, stop := contextWithTimeout(s)
	defer stop()
	r := request{method: http.MethodPost, path: "/_bulk", query: s.query(), length: int64(b.bytes), body: b.reader}
	if s.cfg.Compression == Gzip {
		packed := s.recent.get()
		defer s.recent.put(packed)
		b.pack(packed)
		r.packed, r.length = true, int64(packed.Len())
		r.body = packedReader(packed)
	}
	return s.client.do(ctx, r, answer)
}

// unanswered classifies a request without an answer.
func (s *Sink) unanswered(err error) result {
	r := result{outcome: sinks.Retryable, code: "unreachable"}
	var f *failure
	if errors.As(err, &f) && f.sent {
		r.outcome, r.code = sinks.Unknown, "no_answer"
	}
	switch {
	case s.ctx.Err() != nil:
		r.code = "closed"
	case isTimeout(err):
		if r.outcome == sinks.Unknown {
			r.code = "timeout"
		}
		err = fmt.Errorf("no answer within %s: %w", s.cfg.RequestTimeout, err)
	}
	r.err = fmt.Errorf("elasticsearch: %w", s.client.explain(err))
	return r
}

// shrink makes requests smaller from now on: one of that many bytes was too large.
func (s *Sink) shrink(bytes int, node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := max(bytes/2, 1<<10); n < s.maxBytes {
		s.log.Warn("requests are made smaller: the server refused one as too large (413); batch_bytes may be lowered", "node", node, "refused", bytes, "from_now_on", n)
		s.maxBytes = n
	}
}

// split tries the two halves, one after the other. Where documents have an order the second half waits for
// what of the first has to be written again.
func (s *Sink) split(b *bulk) trial {
	first, second := b.halves()
	t := s.try(first)
	var u trial
	if t.permanent != nil || s.ordered && slices.ContainsFunc(t.results, func(r result) bool { return r.again() }) {
		u.results = all(second.count, result{outcome: sinks.Retryable, code: "held_back", err: errHeld})
	} else {
		u = s.try(second)
	}
	out := trial{overload: t.overload || u.overload, permanent: errors.Join(t.permanent, u.permanent)}
	if t.permanent != nil {
		out.permanent = t.permanent
	}
	if t.results != nil || u.results != nil {
		for _, half := range []struct {
			results []result
			n       int
		}{{t.results, first.count}, {u.results, second.count}} {
			if half.results == nil {
				half.results = all(half.n, result{ok: true})
			}
			out.results = append(out.results, half.results...)
		}
	}
	return out
}

// read takes an answer apart.
func (s *Sink) read(b *bulk, node string, text []byte) trial {
	if clean(text, b.count) {
		return trial{timed: true}
	}
	unclear := func(format string, args ...any) trial {
		err := fmt.Errorf("elasticsearch: %s gives an answer that is none: %s", node, fmt.Sprintf(format, args...))
		return trial{results: all(b.count, result{outcome: sinks.Unknown, code: "malformed_answer", err: err})}
	}
	var answer struct {
		Errors *bool
		Items  []map[string]itemAnswer
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return unclear("%v", err)
	}
	if answer.Errors == nil || len(answer.Items) != b.count {
		return unclear("it has %d items, and the request had %d", len(answer.Items), b.count)
	}
	t := trial{timed: true, results: make([]result, b.count)}
	conflicts := false
	b.each(func(i int, d *delivery, item int) {
		if len(answer.Items[i]) != 1 {
			t.results[i] = unclear("item %d says %d things", i, len(answer.Items[i])).results[0]
			return
		}
		for verb, a := range answer.Items[i] {
			r := s.classify(Action(verb), &a, node)
			t.overload = t.overload || a.Status == http.StatusTooManyRequests
			conflicts = conflicts || r.code == codeConflict
			if a.Status == http.StatusUnauthorized || a.Status == http.StatusForbidden && r.outcome == sinks.Unknown {
				t.permanent = r.err
				r.outcome = sinks.Retryable
			}
			t.results[i] = r
		}
	})
	if s.ordered {
		t.supersede(b)
	}
	if conflicts {
		if err := s.settle(b, t.results); err != nil {
			t.permanent = err
		}
	}
	return t
}

// clean tells, without taking it apart, whether an answer says that all n items were applied.
func clean(text []byte, n int) bool {
	return bytes.HasPrefix(text, []byte(`{"errors":false,"items":[`)) && bytes.HasSuffix(text, []byte(`}}]}`)) &&
		bytes.Count(text, []byte(`"status":`)) == n
}

// supersede takes items as applied that have to be written again but were followed, in
// the same request, by one to the same document that says all about it and was applied: written
// now, the earlier one would undo the later.
func (t *trial) supersede(b *bulk) {
	if !slices.ContainsFunc(t.results, func(r result) bool { return r.again() }) {
		return
	}
	type place struct {
		d   *delivery
		doc string
	}
	later := map[place]bool{}
	items := make([]func(), 0, b.count)
	b.each(func(i int, d *delivery, item int) {
		items = append(items, func() {
			at := place{d, d.document(item)}
			switch r := &t.results[i]; {
			case r.ok && d.whole(item):
				later[at] = true
			case r.again() && later[at]:
				*r = result{outcome: sinks.Applied, code: "superseded"}
			}
		})
	})
	for _, f := range slices.Backward(items) {
		f()
	}
}
