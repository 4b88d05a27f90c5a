package elasticsearch

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keystone/configs/spec"
	"keystone/sinks"
)

// front is a proxy before the cluster, as clusters have them: it speaks TLS or not, and ask may answer a request itself.
func (l *lab) front(secure bool, ask func(w http.ResponseWriter, r *http.Request) (answered bool), change func(*http.Response) error) *httptest.Server {
	l.t.Helper()
	to, err := url.Parse(l.urls[0])
	if err != nil {
		l.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Header.Del("Authorization") }, ModifyResponse: change}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ask == nil || !ask(w, r) {
			proxy.ServeHTTP(w, r)
		}
	})
	s := httptest.NewUnstartedServer(h)
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	l.t.Cleanup(s.Close)
	return s
}

// deny answers as Elasticsearch's security does.
func deny(w http.ResponseWriter, status int) bool {
	w.Header().Set("X-Elastic-Product", "Elasticsearch")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"root_cause":[],"type":"security_exception","reason":"action is unauthorized"},"status":%d}`, status)
	return true
}

// TestRealCredentials: each way to prove oneself reaches the cluster, TLS is checked, and who is refused stops the route with words that help.
func TestRealCredentials(t *testing.T) {
	l := shared(t)
	index := l.index()
	want := ""
	f := l.front(true, func(w http.ResponseWriter, r *http.Request) bool {
		return r.Header.Get("Authorization") != want && deny(w, http.StatusUnauthorized)
	}, nil)
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}))
	c := func(set func(c *Config)) *Config {
		c := config(t, index, f.URL)
		c.TLS = TLS{Written: true, CA: secret(authority)}
		set(c)
		return c
	}
	n := int64(0)
	for _, test := range []struct {
		name, header string
		auth         Auth
	}{
		{"none", "", Auth{}},
		{"basic", "Basic dTpw", Auth{Written: true, Username: secret("u"), Password: secret("p")}},
		{"api key", "APIKey a2V5", Auth{Written: true, APIKey: secret("a2V5")}},
		{"token", "Bearer abc", Auth{Written: true, Token: secret("abc")}},
	} {
		want = test.header
		if err := write(opened(t, c(func(c *Config) { c.Auth = test.auth }), deps()), numbers(0, n, n+1)); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		n++
	}
	l.expect(index, 1, n)

	want = "Basic dTpw"
	for _, test := range []struct {
		name  string
		set   func(c *Config)
		words string
		lasts bool
	}{
		{"no credentials", func(*Config) {}, "it wants credentials", true},
		{"other credentials", func(c *Config) { c.Auth = Auth{Written: true, APIKey: secret("s3cr3t")} }, "check auth.api_key", true},
		{"another authority", func(c *Config) { c.TLS.CA = spec.Secret{} }, "set tls.ca", false},
		{"another name", func(c *Config) { c.TLS.ServerName = "elsewhere" }, "set tls.server_name", false},
		{"a plain server", func(c *Config) { c.URLs = []string{strings.Replace(l.urls[0], "http:", "https:", 1)} }, "it may speak plain http", false},
		{"no certificate", func(c *Config) { c.TLS.CA = secret("no") }, "tls.ca has no certificate", true},
		{"nobody", func(c *Config) { c.URLs = []string{"https://127.0.0.1:1"} }, "connection refused", false},
	} {
		s, err := c(test.set).New(deps())
		if err != nil {
			t.Fatal(err)
		}
		err = s.Open(t.Context())
		if err == nil || !strings.Contains(err.Error(), test.words) || sinks.IsPermanent(err) != test.lasts || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v (permanent %v), want %q", test.name, err, sinks.IsPermanent(err), test.words)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}

	// Credentials that are taken away while the route runs stop it, and nothing is counted as written.
	c0 := c(func(c *Config) { c.Auth = Auth{Written: true, Username: secret("u"), Password: secret("p")} })
	s := opened(t, c0, deps())
	want = "Basic other"
	err := write(s, numbers(0, n, n+2))
	if !sinks.IsPermanent(err) || !strings.Contains(err.Error(), "refuses the credentials (401 security_exception") {
		t.Errorf("taken away: %v", err)
	}
	l.expect(index, 1, n)
}

// TestRealPrivileges: what is refused for a lack of privileges stops the route, whether the whole request is or one item.
func TestRealPrivileges(t *testing.T) {
	l := shared(t)
	index := l.index()
	f := l.front(false, func(w http.ResponseWriter, r *http.Request) bool {
		return r.URL.Path == "/" && deny(w, http.StatusForbidden)
	}, nil)
	if err := write(opened(t, config(t, index, f.URL), deps()), numbers(0, 0, 1)); err != nil {
		t.Errorf("a key that may write and may not ask for the version: %v", err)
	}
	f = l.front(false, func(w http.ResponseWriter, r *http.Request) bool {
		return r.URL.Path != "/" && deny(w, http.StatusForbidden)
	}, nil)
	if err := write(opened(t, config(t, index, f.URL), deps()), numbers(0, 0, 1)); !sinks.IsPermanent(err) {
		t.Errorf("a whole request: %v", err)
	}
	f = l.front(false, nil, replace(`{"errors":true,"items":[{"index":{"status":201}},{"index":{"status":403,"error":{"type":"security_exception","reason":"action [indices:data/write/bulk[s]] is unauthorized"}}}]}`))
	if err := write(opened(t, config(t, index, f.URL), deps()), numbers(0, 0, 2)); !sinks.IsPermanent(err) || !strings.Contains(err.Error(), "privileges") && !strings.Contains(err.Error(), "without credentials") {
		t.Errorf("an item: %v", err)
	}
}

// replace puts another text into answers to bulk requests.
func replace(text string) func(*http.Response) error {
	return func(r *http.Response) error {
		if r.Request.URL.Path != "/_bulk" {
			return nil
		}
		_ = r.Body.Close()
		r.Body = io.NopCloser(strings.NewReader(text))
		r.ContentLength = int64(len(text))
		r.Header.Set("Content-Length", fmt.Sprint(len(text)))
		return nil
	}
}

// TestRealAnswers: an answer that is none, or that of a proxy, is no success; what was applied behind it is there once in the end.
func TestRealAnswers(t *testing.T) {
	l := shared(t)
	status := func(code int, text string) func(*http.Response) error {
		return func(r *http.Response) error {
			if r.Request.URL.Path != "/_bulk" {
				return nil
			}
			r.StatusCode = code
			return replace(text)(r)
		}
	}
	for _, test := range []struct {
		name   string
		change func(*http.Response) error
		want   string // outcome and code of each item
	}{
		{"no JSON", replace("<html>"), "unknown malformed_answer"},
		{"nothing", replace(""), "unknown malformed_answer"},
		{"half", replace(`{"errors":false,"items":[{"index":{"status":201}},`), "unknown malformed_answer"},
		{"an item too few", replace(`{"errors":false,"items":[{"index":{"status":201}}]}`), "unknown malformed_answer"},
		{"no items", replace(`{"errors":false}`), "unknown malformed_answer"},
		{"empty items", replace(`{"errors":true,"items":[{},{}]}`), "unknown malformed_answer"},
		{"bad gateway", status(502, "<html>"), "unknown http_502"},
		{"gateway timeout", status(504, "<html>"), "unknown http_504"},
		{"unavailable", status(503, "<html>"), "retryable http_503"},
		{"too many requests", status(429, `{"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of coordinating operation"},"status":429}`), "retryable es_rejected_execution_exception"},
		{"a proxy's bad request", status(400, "<html>"), "retryable http_400"},
		{"not found", status(404, "<html>"), "retryable http_404"},
		{"elsewhere", status(302, ""), "retryable http_302"},
		{"accepted", status(202, "{}"), "unknown http_202"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &lab{t: t, urls: l.urls}
			index := l.index()
			var mended atomic.Bool
			f := l.front(false, nil, func(r *http.Response) error {
				if mended.Load() {
					return nil
				}
				return test.change(r)
			})
			s := opened(t, config(t, index, f.URL), deps())
			equal(t, "failures", failures(t, write(s, numbers(0, 0, 2))), []string{"0 " + test.want, "1 " + test.want})
			mended.Store(true)
			insist(t, s, numbers(0, 0, 2))
			l.expect(index, 1, 2)
		})
	}
}

// TestRealBadRequest: where one document spoils a whole request, it is found, and alone refused.
func TestRealBadRequest(t *testing.T) {
	l := shared(t)
	index := l.index()
	f := l.front(false, func(w http.ResponseWriter, r *http.Request) bool {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !bytes.Contains(body, []byte(`"n":13}`)) {
			return false
		}
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":{"type":"action_request_validation_exception","reason":"Validation Failed: 1: something;"},"status":400}`)
		return true
	}, nil)
	s := opened(t, config(t, index, f.URL), deps())
	equal(t, "failures", failures(t, write(s, numbers(0, 0, 40))), []string{"13 rejected action_request_validation_exception"})
	if got := len(l.docs(index)); got != 39 {
		t.Errorf("%d documents, want 39", got)
	}
}

// TestRealNodes: nodes that cannot be reached cost nothing but the attempt.
func TestRealNodes(t *testing.T) {
	l := shared(t)
	index := l.index()
	w := l.wall()
	s := opened(t, config(t, index, "http://127.0.0.1:1", w.url, l.urls[0]), deps())
	for n := range int64(6) {
		if n == 3 {
			w.proxy.Stop()
		}
		if rejected, repeats := insist(t, s, numbers(0, n, n+1)); len(rejected) > 0 || repeats["unreachable"] > 0 {
			t.Errorf("rejected %v, repeated %v", rejected, repeats)
		}
	}
	l.expect(index, 1, 6)
}

// TestRealNotElasticsearch: another server is told from a cluster.
func TestRealNotElasticsearch(t *testing.T) {
	l := shared(t)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	defer other.Close()
	s, err := config(t, "x", other.URL).New(deps())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); !sinks.IsPermanent(err) || !strings.Contains(err.Error(), "is not Elasticsearch") {
		t.Errorf("%v", err)
	}
	// An answer that does not come is no reason to wait for ever.
	w := l.wall()
	w.poison("timeout", "downstream", `"timeout": 0`)
	c := config(t, "x", w.url)
	c.RequestTimeout = time.Second
	if s, err = c.New(deps()); err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err == nil || sinks.IsPermanent(err) {
		t.Errorf("%v", err)
	}
}
