package api_test

import (
	"errors"
	"testing"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs/addr"
)

// TestVerify: what was asked arrives, progress and the report come back, and
// so does why a route cannot be verified.
func TestVerify(t *testing.T) {
	c := serveUnix(t, &memory{})
	from := int64(10)
	var seen []api.VerifyProgress
	o := api.VerifyOptions{Since: time.Unix(1700000000, 0), From: &from, Partitions: []int32{3}, Rate: 5}
	r, err := c.Verify(t.Context(), addr.New("route", "r"), o, func(p api.VerifyProgress) { seen = append(seen, p) })
	if err != nil {
		t.Fatal(err)
	}
	if r.OK || r.Total.Missing != 1 || r.Partitions[0].Partition != 3 || r.Notes[0] != "2023-11-14 22:13:20 +0000 UTC 10 [3] 5" {
		t.Errorf("the report is %+v", r)
	}
	if len(seen) != 1 || seen[0].Read != 7 {
		t.Errorf("progress %+v", seen)
	}
	_, err = c.Verify(t.Context(), addr.New("route", "files"), o, func(api.VerifyProgress) {})
	if !errors.Is(err, api.ErrUnsupported) {
		t.Errorf("refused with %v", err)
	}
}
