package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"keystone/configs/spec"
	"keystone/sources/hive/storage"
	"keystone/sources/hive/storage/storagetest"
)

func TestLocal(t *testing.T) {
	dir := t.TempDir()
	storagetest.Run(t, func(t *testing.T) storage.Store {
		l := &storage.Location{URL: dir}
		s, err := l.Open(t.Context(), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	filepath.Walk(filepath.Join(dir, "_keystone/tmp"), func(path string, fi os.FileInfo, err error) error { //nolint:errcheck // it cannot
		if err == nil && !fi.IsDir() {
			t.Errorf("%s was left", path)
		}
		return nil
	})
}

func TestDisk(t *testing.T) {
	d := storagetest.NewDisk(nil)
	storagetest.Run(t, func(*testing.T) storage.Store { return storage.NewLocal("disk", d) })
}

func TestObjects(t *testing.T) {
	for _, prefix := range []string{"", "some/place/"} {
		b := memblob.OpenBucket(nil)
		storagetest.Run(t, func(*testing.T) storage.Store { return storage.NewObjects("mem", shared(b), prefix) })
	}
}

// shared is a view of a bucket that may be closed.
func shared(b *blob.Bucket) *blob.Bucket { return blob.PrefixedBucket(b, "x/") }

// A link out of the folder is not followed.
func TestLinkOut(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	if err := os.Symlink(out, filepath.Join(dir, "dt=1")); err != nil {
		t.Fatal(err)
	}
	s, err := (&storage.Location{URL: dir}).Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // only read
	if err := s.Create(t.Context(), "dt=1/x", []byte("x")); err == nil {
		t.Error("a file was made outside the folder")
	}
	if entries, _ := os.ReadDir(out); len(entries) > 0 {
		t.Errorf("outside the folder is %v", entries)
	}
}

// A disk that loses power at any operation has an object whole or not at all, and has it if it was said so.
func TestPowerLoss(t *testing.T) {
	content := []byte("the whole content")
	acts := map[string]func(context.Context, *storage.Local) error{
		"create": func(ctx context.Context, l *storage.Local) error { return l.Create(ctx, "a/b/c", content) },
		"upload": func(ctx context.Context, l *storage.Local) error {
			return l.Upload(ctx, "a/b/c", bytes.NewReader(content), int64(len(content)))
		},
		"publish": func(ctx context.Context, l *storage.Local) error {
			if err := errors.Join(l.WriteAt(ctx, "s/t", content[:5], 0), l.WriteAt(ctx, "s/t", content[5:], 5)); err != nil {
				return err
			}
			if err := l.Sync(ctx, "s/t"); err != nil {
				return err
			}
			return l.Publish(ctx, "s/t", "a/b/c")
		},
	}
	for what, act := range acts {
		for n := 0; ; n++ {
			ended := false
			for seed := range uint64(8) {
				for _, effect := range []bool{false, true} {
					d := storagetest.NewDisk(func(o storagetest.Op) storagetest.Action {
						return storagetest.Action{Crash: o.N == n, Effect: effect, Partial: o.N == n}
					})
					err := act(t.Context(), storage.NewLocal("disk", d))
					ended = d.Ops() <= n
					after := storage.NewLocal("disk", d.Reboot(rand.New(rand.NewPCG(seed, 1)), nil))
					got, getErr := after.Get(t.Context(), "a/b/c")
					switch {
					case err == nil && !bytes.Equal(got, content):
						t.Fatalf("%s succeeded, and after a crash it has %q, %v", what, got, getErr)
					case getErr == nil && !bytes.Equal(got, content):
						t.Fatalf("%s, crash at operation %d: a partial object %q", what, n, got)
					case getErr != nil && !errors.Is(getErr, storage.ErrNotExist):
						t.Fatal(getErr)
					}
					if err := act(t.Context(), after); err != nil && !errors.Is(err, storage.ErrExists) {
						t.Fatalf("%s again after a crash at operation %d: %v", what, n, err)
					}
					if got, err := after.Get(t.Context(), "a/b/c"); err != nil || !bytes.Equal(got, content) {
						t.Fatalf("%s again after a crash at operation %d: %q, %v", what, n, got, err)
					}
				}
			}
			if ended {
				break
			}
		}
	}
}

// A failure at any operation leaves no partial object, and the call may be repeated.
func TestFailures(t *testing.T) {
	content := []byte("the whole content")
	for n := 0; ; n++ {
		d := storagetest.NewDisk(func(o storagetest.Op) storagetest.Action {
			if o.N == n {
				return storagetest.Action{Err: syscall.ENOSPC, Effect: n%2 == 0, Partial: true}
			}
			return storagetest.Action{}
		})
		l := storage.NewLocal("disk", d)
		for range 3 {
			err := l.Create(t.Context(), "a/b/c", content)
			got, getErr := l.Get(t.Context(), "a/b/c")
			if errors.Is(getErr, syscall.ENOSPC) {
				got, getErr = l.Get(t.Context(), "a/b/c")
			}
			if missing := errors.Is(getErr, storage.ErrNotExist); missing && err == nil || !missing && string(got) != string(content) {
				t.Fatalf("failure at operation %d: create gave %v, and the object is %q, %v", n, err, got, getErr)
			}
		}
		if d.Ops() <= n {
			break
		}
		got, err := l.Get(t.Context(), "a/b/c")
		if errors.Is(err, syscall.ENOSPC) {
			got, err = l.Get(t.Context(), "a/b/c")
		}
		if err != nil || string(got) != string(content) {
			t.Fatalf("failure at operation %d: %q, %v", n, got, err)
		}
	}
}

// ignorant overwrites whatever the condition.
type ignorant struct{ storage.Store }

func (i ignorant) Create(ctx context.Context, name string, data []byte) error {
	return i.Upload(ctx, name, bytes.NewReader(data), int64(len(data)))
}

func TestProbe(t *testing.T) {
	s := storage.NewObjects("mem", memblob.OpenBucket(nil), "")
	if err := storage.Probe(t.Context(), s); err != nil {
		t.Errorf("a store that holds to conditions: %v", err)
	}
	var unsafe *storage.UnsafeError
	if err := storage.Probe(t.Context(), ignorant{s}); !errors.As(err, &unsafe) {
		t.Errorf("a store that ignores conditions: %v", err)
	}
	for i, err := range s.List(t.Context(), "") {
		t.Errorf("the probe left %v %v", i, err)
	}
}

func TestEscape(t *testing.T) {
	for value, want := range map[string]string{
		"": storage.DefaultPartition, "2026-01-02": "2026-01-02", "a b": "a b", "12:30": "12%3A30", "a/b": "a%2Fb", "100%": "100%25",
		"..": "..", "ü": "ü", "a=b": "a%3Db", "x\ny\x7f": "x%0Ay%7F", `"#*?\{}[]^'`: "%22%23%2A%3F%5C%7B}%5B%5D%5E%27",
	} {
		got := string(storage.AppendPartition(nil, "p", []byte(value)))
		if got != "p="+want {
			t.Errorf("%q: %s, want p=%s", value, got, want)
		}
		name, back, null, ok := storage.ParsePartition(got)
		if !ok || name != "p" || back != value || null != (value == "") {
			t.Errorf("%q comes back as %q, %q, null %v", value, name, back, null)
		}
	}
	for _, s := range []string{".", "..", "a/b", "%41", "%", "%zz"} {
		if got := storage.Unescape(storage.Escape(s)); got != s || strings.Contains(storage.Escape(s), "/") {
			t.Errorf("%q is escaped %q and comes back as %q", s, storage.Escape(s), got)
		}
	}
}

func TestLocationCheck(t *testing.T) {
	secret := spec.Secret{Parts: []spec.SecretPart{{Env: "X"}}}
	for _, c := range []struct {
		l    storage.Location
		want string
	}{
		{storage.Location{URL: "out/plays"}, ""},
		{storage.Location{URL: "s3://bucket/a/b", Endpoint: "http://127.0.0.1:9000", AccessKey: secret, SecretKey: secret, PathStyle: true}, ""},
		{storage.Location{URL: "gs://bucket"}, ""},
		{storage.Location{URL: "azblob://box/path"}, ""},
		{storage.Location{}, "location is empty"},
		{storage.Location{URL: "s3a://bucket/a"}, "Write s3://"},
		{storage.Location{URL: "hdfs://x/y"}, `no storage "hdfs://"`},
		{storage.Location{URL: "s3:///a"}, "names no bucket"},
		{storage.Location{URL: "s3://k:s@bucket/a"}, "user or a password"},
		{storage.Location{URL: "s3://bucket/a/../b"}, ". or .."},
		{storage.Location{URL: "out", Endpoint: "http://x"}, "is for s3://"},
		{storage.Location{URL: "s3://b", AccessKey: secret}, "go together"},
		{storage.Location{URL: "s3://b", Endpoint: "minio:9000"}, "is no address"},
	} {
		ds := c.l.Check("KS0000")
		if got := fmt.Sprint(ds); (len(ds) == 0) != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %s, want %q", c.l.URL, got, c.want)
		}
	}
}
