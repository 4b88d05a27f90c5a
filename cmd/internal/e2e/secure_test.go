package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const secureConfig = `
cluster "main" {
  brokers = [%q]
  tls {
    ca = file(%q)
  }
  sasl {
    mechanism = "plain"
    username  = env("KEYSTONE_E2E_USER")
    password  = env("KEYSTONE_E2E_PASSWORD")
  }
}
`

// What nobody may read anywhere but the processes' environment.
const (
	rightPassword = "of-alice"
	wrongPassword = "hush-hush-e2e"
)

// secureBroker starts a broker with a listener that wants TLS and the
// credentials of alice. It gives that listener and the authority's certificate.
func secureBroker(t *testing.T) (b *own, addr string, ca []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	file := filepath.Join(t.TempDir(), "broker.pem")
	if err := os.WriteFile(file, append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), ca...), 0o600); err != nil {
		t.Fatal(err)
	}
	b = ownBroker(t, "--secure", file)
	host, port, err := net.SplitHostPort(b.addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return b, net.JoinHostPort(host, strconv.Itoa(n+20)), ca
}

// holds looks for secrets in every file below a folder but those that hold them by right.
func holds(t *testing.T, dir string, secrets ...string) {
	t.Helper()
	looked := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) == ".pem" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		looked++
		for _, s := range secrets {
			if bytes.Contains(data, []byte(s)) {
				t.Errorf("%s holds the secret %q", path, s)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if looked < 2 { // the configuration and the store
		t.Errorf("only %d files in %s", looked, dir)
	}
}

// The right credentials work; wrong ones are said where a person looks; no
// secret is written or printed.
func TestRealSecure(t *testing.T) {
	b, addr, ca := secureBroker(t)
	f := newFixture(t, b.addr, 2000)
	text, err := os.ReadFile(filepath.Join(f.dir, "main.ks.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	begin := strings.Index(string(text), "cluster \"main\"")
	end := strings.Index(string(text), "stream \"in\"")
	secure := string(text[:begin]) + fmt.Sprintf(secureConfig, addr, "ca.pem") + string(text[end:])
	if err := os.WriteFile(filepath.Join(f.dir, "ca.pem"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	config(t, f.dir, secure)
	secrets := []string{rightPassword, wrongPassword, strings.Split(string(ca), "\n")[1]}
	var said strings.Builder // all output of all commands
	command := func(args ...string) (string, error) {
		out, err := run(t, args...)
		said.WriteString(out)
		if err != nil {
			said.WriteString(err.Error())
		}
		return out, err
	}
	t.Setenv("KEYSTONE_E2E_USER", "alice")

	t.Setenv("KEYSTONE_E2E_PASSWORD", rightPassword)
	p := serve(t, f.dir, "-debug")
	p.healthy("route.plays", "running")
	f.produce(t, client(t, b.addr), nil)
	f.oracle(t, b.addr, f.target)
	for _, args := range [][]string{{"status"}, {"status", "-json"}, {"plan"}} {
		if _, err := command(append(args, f.dir)...); err != nil {
			t.Error(err)
		}
	}
	out, err := command("run", "route.plays", f.dir, "-to", "stdout", "-limit", "10", "-quiet")
	if err != nil || strings.Count(out, "\n") != 2 { // every fifth passes
		t.Errorf("run: %v: %s", err, out)
	}
	p.stop()
	said.WriteString(p.log.String())

	t.Setenv("KEYSTONE_E2E_PASSWORD", wrongPassword)
	const clear = "refused the credentials (SASL PLAIN); check sasl.username and sasl.password"
	_, err = command("run", "route.plays", f.dir, "-to", "stdout", "-limit", "10", "-quiet")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(err.Error(), clear) {
		t.Errorf("run with the wrong password: %v", err)
	}
	p = serve(t, f.dir, "-debug")
	until(t, "status says what is wrong", func() error {
		s, err := p.status()
		if err != nil {
			return err
		}
		wrong := map[string]bool{}
		for _, a := range s.Addresses {
			wrong[a.Address] = strings.Contains(a.Error, clear)
		}
		if !wrong["stream.in"] && !wrong["route.plays"] && !wrong["cluster.main"] {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if out, err := command("status", f.dir); err != nil || !strings.Contains(out, "credentials") {
		t.Errorf("status for people: %v: %s", err, out)
	}
	p.stop()
	said.WriteString(p.log.String())

	for _, s := range secrets {
		if strings.Contains(said.String(), s) {
			t.Errorf("the secret %q was printed", s)
		}
	}
	holds(t, f.dir, secrets...)
}
