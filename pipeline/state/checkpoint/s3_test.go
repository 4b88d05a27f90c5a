package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"keystone/pipeline/state"
	"keystone/sources/hive/storage"
)

// On a real object store a checkpoint is restored as it was, and of two next ones one is fenced.
func TestRealS3(t *testing.T) {
	endpoint := os.Getenv("KEYSTONE_TEST_S3")
	if endpoint == "" {
		t.Skip("no S3: set KEYSTONE_TEST_S3, or run `make e2e`, which starts one")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", os.Getenv("KEYSTONE_TEST_S3_KEY"))
	t.Setenv("AWS_SECRET_ACCESS_KEY", os.Getenv("KEYSTONE_TEST_S3_SECRET"))
	where := storage.Location{URL: fmt.Sprintf("s3://%s/jobs-%d", os.Getenv("KEYSTONE_TEST_S3_BUCKET"), time.Now().UnixNano()), Endpoint: endpoint, Region: os.Getenv("KEYSTONE_TEST_S3_REGION"), PathStyle: true}
	place, err := where.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close() //nolint:errcheck // the test is over
	l := newLab(t)
	l.fill(l.store, 5)
	keepers := make([]*Keeper, 2)
	for i := range keepers {
		if keepers[i], err = Open(t.Context(), Options{Job: "job-1", Place: place}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := keepers[0].Save(t.Context(), l.store, nil, day)
	if err != nil {
		t.Fatal(err)
	}
	want := dump(t, l.store)
	l.fill(l.store, 1)
	if _, err := keepers[1].Save(t.Context(), l.store, nil, day); err == nil {
		t.Error("two made the same checkpoint")
	}
	if err := Verify(t.Context(), place, m.Manifest); err != nil {
		t.Error(err)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	if _, err := Restore(t.Context(), place, "job-1", dir, "", 0, nil); err != nil {
		t.Fatal(err)
	}
	s := l.open(dir)
	if got := dump(t, s); got != want || s.Generation() != 2 {
		t.Error("the state is another one")
	}
	if e, _ := s.Last(); e != (state.Epoch{Generation: 1, N: 5}) {
		t.Error(e)
	}
}
