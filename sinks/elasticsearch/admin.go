package elasticsearch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"keystone/sinks"
)

// admin asks for, and changes, what the cluster keeps beside documents.
type admin struct{ client *client }

// administer connects; the caller calls the function that it gives when done.
func (c *Config) administer(ctx context.Context, d sinks.Deps) (*admin, context.Context, func(), error) {
	cl, err := connect(c, d.Resolve)
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, stop := context.WithTimeout(ctx, c.RequestTimeout)
	return &admin{cl}, ctx, func() { cl.close(ctx); stop() }, nil
}

// absence is why a cluster cannot have a thing at all.
type absence struct{ text string }

func (a *absence) Error() string { return a.text }

// call sends a body, if it is not nil, and gives the answer. found is false for 404. An answer that says
// that the cluster does not know such things is an *absence.
func (a *admin) call(ctx context.Context, method, path, query string, body any) (answer []byte, found bool, err error) {
	r := request{method: method, path: path, query: query, media: "application/json"}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, false, err
		}
		r.length = int64(len(b))
		r.body = func() io.Reader { return bytes.NewReader(b) }
	}
	var into bytes.Buffer
	node, status, err := a.client.do(ctx, r, &into)
	if err != nil {
		return nil, false, a.client.explain(err)
	}
	text := into.Bytes()
	e, _ := said(text)
	switch {
	case status < 300:
		return text, true, nil
	case status == http.StatusUnauthorized, status == http.StatusForbidden && e.Type != clusterBlock:
		return nil, false, a.denied(node, status, text)
	case status == http.StatusNotFound:
		return nil, false, nil
	case status == http.StatusMethodNotAllowed, status == http.StatusGone, status == http.StatusBadRequest && e.Type == "error" && strings.HasPrefix(e.Reason, "no handler found"):
		return nil, false, &absence{fmt.Sprintf("%s does not know %s", node, firstOf(path))}
	}
	return nil, false, fmt.Errorf("%s %s: %s answers %s", method, path, node, phrase(status, text))
}

// firstOf gives the part of a path that names the function of Elasticsearch.
func firstOf(path string) string {
	path = strings.TrimPrefix(path, "/")
	if first, rest, ok := strings.Cut(path, "/"); first == "_ilm" && ok {
		second, _, _ := strings.Cut(rest, "/")
		return first + "/" + second
	} else if ok {
		return first
	}
	return path
}

// denied says what privileges are lacking.
func (a *admin) denied(node string, status int, body []byte) error {
	if status == http.StatusForbidden && a.client.how != "" {
		return fmt.Errorf("%s answers %s; give the user or key of %s the cluster privileges manage_index_templates and manage_ilm and the index privilege manage, or leave template { } out and keep these things yourself",
			node, phrase(status, body), a.client.how)
	}
	return a.client.refused(node, status, body)
}

// change is call for what must take effect.
func (a *admin) change(ctx context.Context, method, path string, body any) error {
	_, found, err := a.call(ctx, method, path, "", body)
	if err == nil && !found {
		err = fmt.Errorf("%s %s: there is none", method, path)
	}
	return err
}

// get reads JSON; ok is false where there is nothing.
func (a *admin) get(ctx context.Context, path, query string, into *map[string]any) (ok bool, err error) {
	answer, found, err := a.call(ctx, http.MethodGet, path, query, nil)
	if err != nil || !found {
		return false, err
	}
	v, err := decode(answer)
	if err != nil {
		return false, fmt.Errorf("GET %s: the answer is no JSON: %w", path, err)
	}
	m, isMap := v.(map[string]any)
	if !isMap {
		return false, fmt.Errorf("GET %s: the answer is no object", path)
	}
	*into = m
	return true, nil
}

// remove deletes what may be gone already.
func (a *admin) remove(ctx context.Context, path string) error {
	_, _, err := a.call(ctx, http.MethodDelete, path, "", nil)
	return err
}

func escape(name string) string { return url.PathEscape(name) }
