package api

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
)

// CheckListen refuses an address that other machines could reach: the API has
// no passwords, so it is for this machine alone.
func CheckListen(hostport string) error {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || port == "" {
		return fmt.Errorf("%q is not HOST:PORT, such as 127.0.0.1:7070", hostport)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is no port: it is a number up to 65535, or 0 for any that is free", port)
	}
	if !loopback(host) {
		return fmt.Errorf("%q is not a loopback address; the API has no passwords and listens on 127.0.0.1 or ::1 only; put a proxy that authenticates before it", host)
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// localOnly refuses requests that a browser sends for a page of someone else:
// under a name that was made to resolve to this machine (Host), or from
// another origin (Origin, Sec-Fetch-Site).
func localOnly(h http.Handler) http.Handler {
	h = http.NewCrossOriginProtection().Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback(hostOf(r.Host)) {
			http.Error(w, fmt.Sprintf("refused: asked for as %q; use 127.0.0.1 or localhost", r.Host), http.StatusForbidden)
			return
		}
		if o := r.Header.Get("Origin"); o != "" {
			if u, err := url.Parse(o); err != nil || u.Host != r.Host {
				http.Error(w, "refused: the request comes from another origin", http.StatusForbidden)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// hostOf gives a Host header without its port and without brackets.
func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	if n := len(hostport); n > 2 && hostport[0] == '[' && hostport[n-1] == ']' {
		return hostport[1 : n-1]
	}
	return hostport
}
