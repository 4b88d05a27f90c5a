package rows

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// FuzzAppend gives a writer any bytes: what is taken is read back as a plain decoder has it, and
// what is refused leaves the good events around it as they are.
func FuzzAppend(f *testing.F) {
	typ := parse(f, `object({a = int, b = optional(string), d = optional(decimal(9, 3)), at = optional(timestamp_rfc3339), l = optional(list(object({x = optional(float), m = optional(map(string))}))), raw = optional(bytes)})`)
	s := mustSchema(f, typ)
	good := `{"a":7,"b":"x","l":[{"x":1,"m":{"k":"v"}},null]}`
	row, _ := expected(typ, good)
	for _, event := range []string{good, `{}`, `{"a":1,"l":[{"m":{"a":"b","a":null}},{}]}`, `{"a":1e0}`, `{"a":1,"d":1.2345}`, `{"a":-1,"at":"2024-02-30T00:00:00Z"}`, `{"a":1,"raw":"AA=="}`, `{"a":1,"b":"\ud800"}`} {
		f.Add([]byte(event))
	}
	f.Fuzz(func(t *testing.T, event []byte) {
		var out bytes.Buffer
		w := NewWriter(&out, s, Options{Compression: None})
		want := []any{row}
		if err := w.Append([]byte(good)); err != nil {
			t.Fatal(err)
		}
		switch err := w.Append(event); {
		case err == nil:
			other, fits := expected(typ, string(event))
			if !fits {
				t.Fatalf("%q was taken", event)
			}
			want = append(want, other)
		case w.Rows() != 1:
			t.Fatalf("%q was refused and is there", event)
		}
		if err := w.Append([]byte(good)); err != nil {
			t.Fatal(err)
		}
		want = append(want, row)
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := readBack(t, out.Bytes(), typ); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\nis %v\nwant %v", strings.ToValidUTF8(string(event), "?"), got, want)
		}
	})
}
