package elasticsearch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"keystone/sinks"
)

// classify gives an item its outcome. A Forbidden one that is Unknown is the whole route's matter.
func (s *Sink) classify(did Action, a *itemAnswer, node string) result {
	e := a.Error
	if e == nil {
		if a.Status >= 200 && a.Status < 300 || a.Status == http.StatusNotFound && did == Delete {
			return result{ok: true}
		}
		e = &itemError{Type: fmt.Sprintf("http_%d", a.Status), Reason: http.StatusText(a.Status)}
	}
	r := result{code: e.Type, index: a.Index, err: fmt.Errorf("elasticsearch: %d %s: %s", a.Status, e.Type, e.text())}
	switch {
	case a.Status == http.StatusConflict:
		r.outcome = sinks.Retryable // of an update, others were faster three times
		switch {
		case did == Create:
			r.outcome, r.code = sinks.Rejected, codeConflict // until looked at
		case did != Update && !s.ordered:
			r.outcome, r.code = sinks.Applied, "superseded" // a higher version is there
		}
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden && e.Type != clusterBlock:
		r.outcome = sinks.Unknown
		body := fmt.Appendf(nil, `{"error":%q}`, e.Type+": "+e.text())
		r.err = s.client.refused(node, a.Status, body)
	case e.Type == "index_not_found_exception" && did == Delete:
		r.outcome = sinks.Applied
	case e.Type == "index_not_found_exception":
		r.outcome = sinks.Retryable
		r.err = fmt.Errorf("%w; the cluster does not make it (action.auto_create_index): create the index, or an index template that allows it", r.err)
	case s.cfg.Pipeline != "" && e.Type == "illegal_argument_exception" && strings.HasPrefix(e.Reason, "pipeline with id ["+s.cfg.Pipeline+"] does not exist"):
		r.outcome, r.code = sinks.Retryable, "no_pipeline"
		r.err = fmt.Errorf("%w; make it (PUT /_ingest/pipeline/%s), or leave pipeline out", r.err, s.cfg.Pipeline)
	case e.Type == "index_closed_exception", e.Type == "validation_exception" && strings.Contains(e.Reason, "shards"):
		r.outcome = sinks.Retryable // as many indices are open as the cluster allows
	case e.Type == "not_x_content_exception":
		r.outcome = sinks.Rejected // with status 500
	case a.Status == http.StatusTooManyRequests, a.Status == http.StatusRequestTimeout, a.Status >= 500, e.Type == clusterBlock:
		r.outcome = sinks.Retryable
	default:
		r.outcome = sinks.Rejected
	}
	return r
}

const codeConflict = "conflict"

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

func contextWithTimeout(s *Sink) (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.cfg.RequestTimeout)
}

func packedReader(b *bytes.Buffer) func() io.Reader {
	return func() io.Reader { return bytes.NewReader(b.Bytes()) }
}
