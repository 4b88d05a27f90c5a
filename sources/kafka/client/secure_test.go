package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
)

// certificate makes a key and a certificate for 127.0.0.1 that signs itself.
func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// secured checks every way in, and every way that must not be one, against a
// listener that wants TLS and SASL of alice.
// says is whether the broker tells why it refuses: kfake only hangs up.
func secured(t *testing.T, brokers []string, ca []byte, says bool, mechanisms ...string) {
	good := client.Options{Brokers: brokers, DialTimeout: 3 * time.Second, TLS: &client.TLS{CA: ca}}
	ping := func(o client.Options) error {
		a, err := admin.New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		return a.Ping(ctx)
	}
	for _, m := range mechanisms {
		o := good
		o.SASL = &client.SASL{Mechanism: m, Username: "alice", Password: "of-alice"}
		if err := ping(o); err != nil {
			t.Errorf("%s: %v", m, err)
		}
		o.SASL = &client.SASL{Mechanism: m, Username: "alice", Password: "wrong-secret"}
		if says {
			expect(t, ping(o), true, "refused the credentials", brokers[0])
		} else {
			expect(t, ping(o), false, "closed the connection", "credentials", brokers[0])
		}
	}
	other, _ := certificate(t)
	o := good
	o.SASL = &client.SASL{Mechanism: "plain", Username: "alice", Password: "of-alice"}
	o.TLS = &client.TLS{CA: other}
	expect(t, ping(o), true, "is not trusted; set tls.ca", brokers[0])
	o.TLS = &client.TLS{CA: ca, ServerName: "elsewhere.example"}
	expect(t, ping(o), true, "set tls.ca, or tls.server_name", brokers[0])
	o.TLS = nil
	expect(t, ping(o), false, "TLS", brokers[0])
}

// expect looks for words in an error, and for the secret.
func expect(t *testing.T, err error, refused bool, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "wrong-secret") || strings.Contains(err.Error(), "of-alice") {
		t.Errorf("the password is in %q", err)
	}
	if client.Refused(err) != refused {
		t.Errorf("Refused = %v for %q", !refused, err)
	}
}

func TestSecure(t *testing.T) {
	cert, key := certificate(t)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for mechanism, name := range map[string]string{"plain": "PLAIN", "scram_sha_256": "SCRAM-SHA-256", "scram_sha_512": "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}),
				kfake.EnableSASL(), kfake.Superuser(name, "alice", "of-alice"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			secured(t, c.ListenAddrs(), cert, false, mechanism)
		})
	}
}

// TestRealSecure does the same with a Kafka of its own.
func TestRealSecure(t *testing.T) {
	script := os.Getenv("KEYSTONE_TEST_KAFKA_SH")
	if script == "" {
		t.Skip("no real Kafka: run `make e2e`, which sets KEYSTONE_TEST_KAFKA_SH to the script that starts one")
	}
	cert, key := certificate(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "broker.pem")
	if err := os.WriteFile(file, append(key, cert...), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	t.Cleanup(func() {
		if out, err := exec.Command(script, "stop", "--kill", "--data", data).CombinedOutput(); err != nil {
			t.Errorf("stop: %v: %s", err, out)
		}
	})
	out, err := exec.Command(script, "start", "--port", "0", "--data", data, "--secure", file).Output()
	if err != nil {
		t.Fatalf("start: %v: %s", err, err.(*exec.ExitError).Stderr) //nolint:errorlint // as os/exec documents
	}
	plain := strings.TrimSpace(string(out))
	host, port, err := net.SplitHostPort(plain)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(plain))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		rs, err := kadm.NewClient(cl).AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "alice", Mechanism: m, Iterations: 4096, Password: "of-alice"}})
		if err != nil || !rs.Ok() {
			t.Fatal(err, rs)
		}
	}
	secured(t, []string{net.JoinHostPort(host, strconv.Itoa(n+20))}, cert, true, "plain", "scram_sha_256", "scram_sha_512")

	// TLS towards a listener without it.
	a, err := admin.New(client.Options{Brokers: []string{plain}, DialTimeout: 3 * time.Second, TLS: &client.TLS{CA: cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	expect(t, a.Ping(ctx), false, "is it a plain listener?", plain)
}

func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	a, err := admin.New(client.Options{Brokers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	expect(t, a.Ping(ctx), false, "cannot connect to the cluster at "+addr, "does it run there?", "connection refused")
}

// No way of printing options shows a secret.
func TestSecretsStayHidden(t *testing.T) {
	o := client.Options{Brokers: []string{"b:1"}, SASL: &client.SASL{Mechanism: "plain", Username: "alice", Password: "of-alice"}, TLS: &client.TLS{Key: []byte("key-bytes")}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{o, &o, o.SASL} {
			if s := fmt.Sprintf(format, v); strings.Contains(s, "alice") || strings.Contains(s, "key-bytes") {
				t.Errorf("%s of %T shows %q", format, v, s)
			}
		}
	}
}
