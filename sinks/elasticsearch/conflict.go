package elasticsearch

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"keystone/sinks"
)

// memory has the documents that action create may have made, as far as this process knows: it
// asked for them and has no answer that says what became of it. A conflict with one of them is none.
type memory struct {
	mu   sync.Mutex // guards docs
	docs map[string]bool
}

// maxMemory bounds memory. What is forgotten is found out by _ks, or becomes a dead letter, which is not lost.
const maxMemory = 1 << 20

func (m *memory) has(doc string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.docs[doc]
}

func (m *memory) set(doc string, maybe bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !maybe {
		delete(m.docs, doc)
		return
	}
	if m.docs == nil {
		m.docs = make(map[string]bool)
	}
	for k := range m.docs {
		if len(m.docs) < maxMemory {
			break
		}
		delete(m.docs, k)
	}
	m.docs[doc] = true
}

func (m *memory) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.docs) == 0
}

// remember notes for action create which documents may have been made.
func (s *Sink) remember(b *bulk, results []result) {
	if s.cfg.Action != Create || results == nil && s.sent.empty() {
		return
	}
	b.each(func(i int, d *delivery, item int) {
		maybe := results != nil && results[i].again()
		if maybe || !s.sent.empty() {
			s.sent.set(d.target(item), maybe)
		}
	})
}

// target gives the document of an item, also where ids are derived.
func (d *delivery) target(item int) string {
	if d.enc.own {
		return d.document(item)
	}
	r := &d.b.Records[d.recs[item]]
	return string(d.enc.appendID(append(append([]byte(nil), d.enc.indexOf(r)...), 0), r)) + d.routing(r)
}

// origin is the field _ks.
type origin struct {
	Route      string `json:"route"`
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	Offset     int64  `json:"offset"`
	Child      int32  `json:"child"`
	Generation int64  `json:"generation"`
}

func (s *Sink) originOf(d *delivery, item int) origin {
	r := &d.b.Records[d.recs[item]]
	return origin{s.deps.Route, d.b.Next.Identity, d.b.Partition, r.Offset, r.Child, s.deps.Generation}
}

// settle looks at the conflicts of action create: the document that is there may be of the same record.
func (s *Sink) settle(b *bulk, results []result) (permanent error) {
	type question struct {
		Index  string   `json:"_index"`
		ID     string   `json:"_id"`
		Route  string   `json:"routing,omitempty"`
		Source []string `json:"_source"`
		at     int
		want   origin
		own    bool
	}
	var ask []question
	b.each(func(i int, d *delivery, item int) {
		r := &results[i]
		switch {
		case r.ok || r.code != codeConflict:
		case s.sent.has(d.target(item)):
			*r = result{outcome: sinks.Applied, code: "repeated"}
		case s.cfg.origin():
			_, id, _ := strings.Cut(d.target(item), "\x00")
			id, route, _ := strings.Cut(id, "\x00")
			ask = append(ask, question{Index: r.index, ID: id, Route: route, Source: []string{"_ks"}, at: i, want: s.originOf(d, item), own: d.enc.own})
		}
	})
	if len(ask) == 0 {
		return nil
	}
	text, err := json.Marshal(map[string]any{"docs": ask})
	if err != nil {
		panic(fmt.Sprintf("elasticsearch: a question has no JSON form: %v", err))
	}
	fail := func(err error) {
		for _, q := range ask {
			results[q.at] = result{outcome: sinks.Retryable, code: "conflict_unclear", err: fmt.Errorf("elasticsearch: whether a document is there already: %w", err)}
		}
	}
	ctx, stop := contextWithTimeout(s)
	defer stop()
	body := s.recent.get()
	defer s.recent.put(body)
	node, status, err := s.client.do(ctx, request{
		method: http.MethodPost, path: "/_mget", query: "filter_path=error,docs.found,docs._source._ks,docs.error.type",
		length: int64(len(text)), body: func() io.Reader { return strings.NewReader(string(text)) },
	}, body)
	switch {
	case err != nil:
		fail(err)
		return nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		fail(fmt.Errorf("%s answers %d", node, status))
		return sinks.Permanent{Err: fmt.Errorf("with action = \"create\" and origin, the privilege to read the index is needed, too, to tell a repeat from a conflict: %w", s.client.refused(node, status, body.Bytes()))}
	case status != http.StatusOK:
		fail(fmt.Errorf("%s answers %s", node, phrase(status, body.Bytes())))
		return nil
	}
	var answer struct {
		Docs []struct {
			Found  bool
			Source struct {
				KS *origin `json:"_ks"`
			} `json:"_source"`
			Error *itemError
		}
	}
	if err := json.Unmarshal(body.Bytes(), &answer); err != nil || len(answer.Docs) != len(ask) {
		fail(fmt.Errorf("%s answers with %d documents, and was asked for %d", node, len(answer.Docs), len(ask)))
		return nil
	}
	for k, q := range ask {
		doc, r := &answer.Docs[k], &results[q.at]
		have := doc.Source.KS
		switch {
		case doc.Error != nil:
			*r = result{outcome: sinks.Retryable, code: "conflict_unclear", err: fmt.Errorf("elasticsearch: whether a document is there already: %s", doc.Error.Type)}
		case !doc.Found: // it was deleted meanwhile
			*r = result{outcome: sinks.Retryable, code: codeConflict, err: r.err}
		case have == nil:
			r.err = fmt.Errorf("%w; the document that is there has no field _ks, so it is not this route's", r.err)
		case *have == q.want, !q.own && have.Generation == q.want.Generation:
			*r = result{outcome: sinks.Applied, code: "repeated"}
		case !q.own:
			r.err = fmt.Errorf("%w; generation %d of the route made it, this is %d, and action \"create\" replaces nothing", r.err, have.Generation, q.want.Generation)
		default:
			r.err = fmt.Errorf("%w; it was made of offset %d of partition %d (%s)", r.err, have.Offset, have.Partition, have.Route)
		}
	}
	return nil
}
