package eval

import (
	"net/url"
	"testing"
)

// What plainHost takes, package url reads the same way.
func FuzzPlainHost(f *testing.F) {
	for _, s := range []string{"https://www.example.com:8443/a?b#c", "http://a", "ftp://a-b.c:/", "x://y?z", "a://b@c", "http://[::1]/", "1://a", "http://a%20b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host := plainHost([]byte(s))
		if host == nil {
			return
		}
		u, err := url.Parse(s)
		if err != nil || u.Hostname() != string(host) {
			t.Fatalf("%q: got %q, package url says %v %v", s, host, u, err)
		}
	})
}
