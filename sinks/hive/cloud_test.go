package hive

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"keystone/configs/spec"
	"keystone/sinks"
	"keystone/sources/hive/storage"
	"keystone/sources/hive/storage/storagetest"
)

// realS3 gives a fresh place on the S3-compatible server of .testenv/with-s3.
func realS3(t *testing.T) *storage.Location {
	t.Helper()
	endpoint := os.Getenv("KEYSTONE_TEST_S3")
	if endpoint == "" {
		t.Skip("no S3-compatible server: run it under .testenv/with-s3")
	}
	return &storage.Location{
		URL: "s3://" + os.Getenv("KEYSTONE_TEST_S3_BUCKET") + "/" + rand.Text() + "/table", Endpoint: endpoint, Region: os.Getenv("KEYSTONE_TEST_S3_REGION"), PathStyle: true,
		AccessKey: spec.Secret{Parts: []spec.SecretPart{{Env: "KEYSTONE_TEST_S3_KEY"}}},
		SecretKey: spec.Secret{Parts: []spec.SecretPart{{Env: "KEYSTONE_TEST_S3_SECRET"}}},
	}
}

// realGCS gives a fresh place on the emulator of .testenv/with-gcs.
func realGCS(t *testing.T) *storage.Location {
	t.Helper()
	server := os.Getenv("KEYSTONE_TEST_GCS")
	if server == "" {
		t.Skip("no emulator of Google Cloud Storage: run it under .testenv/with-gcs")
	}
	t.Setenv("STORAGE_EMULATOR_HOST", server)
	return &storage.Location{URL: "gs://" + os.Getenv("KEYSTONE_TEST_GCS_BUCKET") + "/" + rand.Text() + "/table"}
}

// realAzure gives a fresh place on the emulator of .testenv/with-azure.
func realAzure(t *testing.T) *storage.Location {
	t.Helper()
	server := os.Getenv("KEYSTONE_TEST_AZURE")
	if server == "" {
		t.Skip("no emulator of Azure Blob Storage: run it under .testenv/with-azure")
	}
	for name, value := range map[string]string{
		"AZURE_STORAGE_ACCOUNT": os.Getenv("KEYSTONE_TEST_AZURE_ACCOUNT"), "AZURE_STORAGE_KEY": os.Getenv("KEYSTONE_TEST_AZURE_KEY"),
		"AZURE_STORAGE_DOMAIN": server, "AZURE_STORAGE_PROTOCOL": "http",
	} {
		t.Setenv(name, value)
	}
	return &storage.Location{URL: "azblob://" + os.Getenv("KEYSTONE_TEST_AZURE_CONTAINER") + "/" + rand.Text() + "/table"}
}

func fromEnv(s spec.Secret) (string, error) { return os.Getenv(s.Parts[0].Env), nil }

func openReal(t *testing.T, l *storage.Location) storage.Store {
	t.Helper()
	st, err := l.Open(t.Context(), "", fromEnv)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// A server that speaks S3 holds to the contract, and a table on it has each row once, wherever the writer crashes.
func TestRealS3(t *testing.T) {
	testReal(t, realS3, map[string]func(*testing.T, *storage.Location){
		"wrong credentials": func(_ *testing.T, l *storage.Location) {
			l.SecretKey = spec.Secret{Parts: []spec.SecretPart{{Env: "KEYSTONE_TEST_S3"}}}
		},
		"no such bucket": func(_ *testing.T, l *storage.Location) { l.URL = "s3://nobody-made-this/table" },
	})
}

// So does Google Cloud Storage, as far as its emulator goes, which looks at no credentials.
func TestRealGCS(t *testing.T) {
	testReal(t, realGCS, map[string]func(*testing.T, *storage.Location){
		"no such bucket": func(_ *testing.T, l *storage.Location) { l.URL = "gs://nobody-made-this/table" },
	})
}

// So does Azure Blob Storage, as far as Microsoft's emulator goes.
func TestRealAzure(t *testing.T) {
	wrong := base64.StdEncoding.EncodeToString([]byte("another-secret"))
	testReal(t, realAzure, map[string]func(*testing.T, *storage.Location){
		"wrong credentials": func(t *testing.T, _ *storage.Location) { t.Setenv("AZURE_STORAGE_KEY", wrong) },
		"wrong signature": func(t *testing.T, _ *storage.Location) {
			t.Setenv("AZURE_STORAGE_KEY", "")
			t.Setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2021-12-02&ss=b&srt=sco&sp=rwdlc&se=2099-01-01T00:00:00Z&sig="+url.QueryEscape(wrong))
		},
		"no such container": func(_ *testing.T, l *storage.Location) { l.URL = "azblob://nobody-made-this/table" },
	})
}

// testReal holds a store to what tables need of it. place gives a fresh one; what is in spoil is refused for good.
func testReal(t *testing.T, place func(*testing.T) *storage.Location, spoil map[string]func(*testing.T, *storage.Location)) {
	t.Run("contract", func(t *testing.T) {
		l := place(t)
		storagetest.Run(t, func(t *testing.T) storage.Store { return openReal(t, l) })
		if err := storage.Probe(t.Context(), openReal(t, l)); err != nil {
			t.Error(err)
		}
	})
	t.Run("crash at every step", func(t *testing.T) {
		for n, ended := 0, false; !ended; n++ {
			all := openReal(t, place(t))
			ctx, cancel := context.WithCancel(t.Context())
			w := objectWorld{all, storagetest.NewStore(all, func(o storagetest.Op) storagetest.Action {
				if o.N == n {
					cancel()
				}
				return storagetest.Action{Crash: o.N == n, Effect: n%2 == 0}
			})}
			err := life(ctx, testSink(t, w.store(), testConfig(t, nil)), 1, crashTotal, crashEvery)
			cancel()
			if ended = err == nil; err != nil && w.ops() <= n {
				t.Fatalf("it failed without a crash: %v", err)
			}
			shown(t, all)
			if err := life(t.Context(), testSink(t, all, testConfig(t, nil)), 1, crashTotal, crashEvery); err != nil {
				t.Fatalf("after a crash at operation %d: %v", n, err)
			}
			expect(t, all, 1, crashTotal)
			if err := all.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("PyArrow", func(t *testing.T) { readByOthers(t, place(t)) })
	for what, change := range spoil {
		t.Run(what, func(t *testing.T) {
			l := place(t)
			change(t, l)
			c := testConfig(t, func(c *Config) { c.Location = *l })
			s, err := c.New(sinks.Deps{Type: eventType, Resolve: fromEnv})
			if err != nil {
				t.Fatal(err)
			}
			err = s.Open(t.Context())
			if !sinks.IsPermanent(err) {
				t.Errorf("open: %v, want a permanent error", err)
			}
			for _, secret := range []string{"KEYSTONE_TEST_S3_SECRET", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN"} {
				if v := os.Getenv(secret); v != "" && err != nil && strings.Contains(err.Error(), v) {
					t.Errorf("%s is in %q", secret, err)
				}
			}
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// readByOthers wants of PyArrow each row, with the value of its partition that has characters which paths cannot.
func readByOthers(t *testing.T, l *storage.Location) {
	readers := os.Getenv("KEYSTONE_TEST_READERS")
	if readers == "" {
		t.Skip("no readers: run it under .testenv/with-readers")
	}
	all := openReal(t, l)
	if err := life(t.Context(), testSink(t, all, testConfig(t, nil)), 1, crashTotal, crashEvery); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	for id := range int64(crashTotal) {
		if d := day(id); d != nil {
			want[string(d)]++
		} else {
			want["null"]++
		}
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), readers, "read", "rows", l.URL)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	var x struct {
		Columns [][]string
		Rows    [][]any
	}
	if err := json.Unmarshal(out, &x); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dt := slices.IndexFunc(x.Columns, func(c []string) bool { return c[0] == "dt" })
	if dt < 0 {
		t.Fatalf("there is no column dt: %q", x.Columns)
	}
	got := map[string]int{}
	for _, row := range x.Rows {
		if v, ok := row[dt].(string); ok {
			got[v]++
		} else {
			got["null"]++
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("PyArrow reads %v, want %v", got, want)
	}
}
