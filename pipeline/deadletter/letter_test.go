package deadletter

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keystone/pipeline"
	"keystone/pipeline/record"
)

// TestParse: what the stream keeps and what the file keeps is the same letter,
// and both give the original record back, byte for byte.
func TestParse(t *testing.T) {
	for name, value := range map[string][]byte{"json": []byte(`{"a":1}`), "bytes": {0xff, 0}, "null": nil, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			l := letter(value)
			l.Replays = 2
			l.Record.Headers = []record.Header{{Key: "trace", Value: []byte("t1")}, {Key: "bin", Value: []byte{0xfe}}, {Key: "null"}}
			kept := batch([]pipeline.DeadLetter{l}).Records[0]
			got, err := Parse(&kept)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(line(&l), got); d != "" {
				t.Error(d)
			}
			text, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			var fromFile Letter
			if err := json.Unmarshal(text, &fromFile); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(l.Record, fromFile.Record()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	if _, err := Parse(&record.Record{Value: []byte("x")}); !errors.Is(err, ErrNoLetter) {
		t.Errorf("%v", err)
	}
	l := letter(nil)
	r := batch([]pipeline.DeadLetter{l}).Records[0]
	for i := range r.Headers {
		if r.Headers[i].Key == HeaderOffset {
			r.Headers[i].Value = []byte("seven")
		}
	}
	if _, err := Parse(&r); err == nil || errors.Is(err, ErrNoLetter) {
		t.Errorf("%v", err)
	}
}
