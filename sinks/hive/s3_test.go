package hive

import (
	"context"
	"crypto/rand"
	"os"
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

func fromEnv(s spec.Secret) (string, error) { return os.Getenv(s.Parts[0].Env), nil }

func openReal(t *testing.T, l *storage.Location) storage.Store {
	t.Helper()
	st, err := l.Open(t.Context(), "", fromEnv)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// A real server that speaks S3 holds to the contract, and a table on it has each row once, wherever the
// writer crashes.
func TestRealS3(t *testing.T) {
	t.Run("contract", func(t *testing.T) {
		l := realS3(t)
		storagetest.Run(t, func(t *testing.T) storage.Store { return openReal(t, l) })
		if err := storage.Probe(t.Context(), openReal(t, l)); err != nil {
			t.Error(err)
		}
	})
	t.Run("crash at every step", func(t *testing.T) {
		for n, ended := 0, false; !ended; n++ {
			all := openReal(t, realS3(t))
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
	for what, spoil := range map[string]func(*storage.Location){
		"wrong credentials": func(l *storage.Location) {
			l.SecretKey = spec.Secret{Parts: []spec.SecretPart{{Env: "KEYSTONE_TEST_S3"}}}
		},
		"no such bucket": func(l *storage.Location) { l.URL = "s3://nobody-made-this/table" },
	} {
		l := realS3(t)
		spoil(l)
		c := testConfig(t, func(c *Config) { c.Location = *l })
		s, err := c.New(sinks.Deps{Type: eventType, Resolve: fromEnv})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Open(t.Context()); !sinks.IsPermanent(err) {
			t.Errorf("%s: open: %v, want a permanent error", what, err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
