package json

import (
	stdjson "encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

type vector struct{ name, doc string }

// vectors reads lines of a name, a tab and a document quoted as Go does.
func vectors(t testing.TB, file string) (out []vector) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		name, quoted, ok := strings.Cut(line, "\t")
		doc, err := strconv.Unquote(quoted)
		if !ok || err != nil {
			t.Fatalf("%s: %q: %v", file, line, err)
		}
		out = append(out, vector{name, doc})
	}
	return out
}

// scanner looks for some paths, so that used and unused values are read.
func scanner(d Depth) *Scanner {
	t := NewTrie()
	t.Add(Step{Name: "a"}, Step{Name: "b"}, Step{Name: "c"})
	t.Add(Step{Name: "a"}, Step{Index: 1, IsIndex: true})
	t.Add(Step{Name: "e"})
	return NewScanner(t, d)
}

func TestAccept(t *testing.T) {
	s := scanner(Full)
	for _, v := range vectors(t, "accept.txt") {
		for range 2 { // the second time the keys are foreseen
			if err := s.Scan([]byte(v.doc)); err != nil {
				t.Errorf("%s: %q: %v", v.name, v.doc, err)
			}
		}
		if err := scanner(Lazy).Scan([]byte(v.doc)); err != nil {
			t.Errorf("%s, lazy: %q: %v", v.name, v.doc, err)
		}
		if err := Check([]byte(v.doc)); err != nil {
			t.Errorf("%s: Check(%q): %v", v.name, v.doc, err)
		}
		if !stdjson.Valid([]byte(v.doc)) {
			t.Errorf("%s: encoding/json does not take %q", v.name, v.doc)
		}
	}
}

func TestReject(t *testing.T) {
	s := scanner(Full)
	for _, v := range vectors(t, "reject.txt") {
		for _, warm := range []string{"{}", `{"a":1,"unused":2}`} {
			if err := s.Scan([]byte(warm)); err != nil {
				t.Fatal(err)
			}
			if err := s.Scan([]byte(v.doc)); err == nil {
				t.Errorf("%s: %q is accepted", v.name, v.doc)
			}
		}
		if err := Check([]byte(v.doc)); err == nil {
			t.Errorf("%s: Check accepts %q", v.name, v.doc)
		}
		if stdjson.Valid([]byte(v.doc)) && utf8.ValidString(v.doc) {
			t.Errorf("%s: encoding/json takes %q", v.name, v.doc)
		}
	}
}

func TestNotObject(t *testing.T) {
	for _, v := range vectors(t, "not_object.txt") {
		if err := scanner(Full).Scan([]byte(v.doc)); err == nil || !strings.Contains(err.Error(), "not a JSON object") {
			t.Errorf("%s: %q: %v", v.name, v.doc, err)
		}
		if err := Check([]byte(v.doc)); err != nil {
			t.Errorf("%s: Check(%q): %v", v.name, v.doc, err)
		}
	}
}

func TestDepth(t *testing.T) {
	for _, part := range []struct{ open, close string }{{`{"a":`, "}"}, {"[", "]"}} {
		for _, key := range []string{"a", "unused"} {
			nested := func(n int) []byte {
				return []byte(`{"` + key + `":` + strings.Repeat(part.open, n-1) + "1" + strings.Repeat(part.close, n-1) + "}")
			}
			for _, d := range []Depth{Full, Lazy} {
				if err := scanner(d).Scan(nested(MaxDepth)); err != nil {
					t.Errorf("depth %d of %s, %d: %v", MaxDepth, part.open, d, err)
				}
				if err := scanner(d).Scan(nested(MaxDepth + 1)); err == nil {
					t.Errorf("depth %d of %s, %d is accepted", MaxDepth+1, part.open, d)
				}
			}
			if err := scanner(Full).Scan([]byte(`{"` + key + `":` + strings.Repeat(part.open, 10_000_000))); err == nil {
				t.Error("ten million brackets are accepted")
			}
		}
	}
}

func TestErrorOffset(t *testing.T) {
	err := scanner(Full).Scan([]byte(`{"a":1,"x":tru}`))
	if e, ok := errors.AsType[*SyntaxError](err); !ok || e.Offset != 11 {
		t.Errorf("got %v, want an error at byte 11", err)
	}
}

func TestSlots(t *testing.T) {
	for _, c := range []struct{ doc, abc, a1, e string }{
		{`{"a":{"b":{"c":1}},"e":2}`, "1", "", "2"},
		{`{"a":[1,"x"],"e":"\n"}`, "", `"x"`, `"\n"`},
		{`{"a":{"b":{"c":1}},"a":{"b":{}}}`, "", "", ""},      // the last one wins with all below it
		{`{"a":{"b":{"c":1},"b":{"c":2}}}`, "2", "", ""},      // at every depth
		{`{"a":{"b":{"c":1}},"a":[0,true]}`, "", "true", ""},  // of whatever form
		{`{"a":[0,1],"a":null}`, "", "", ""},                  //
		{`{"e":1,"\u0065":2}`, "", "", "2"},                   // an escaped key is the same key
		{`{"\u0061":{"\u0062":{"\u0063":[]}}}`, "[]", "", ""}, //
		{`{"e":1,"E":2}`, "", "", "1"},                        // case counts
		{` { "e" : null , "a" : [ 1 , -2.50 ] } `, "", "-2.50", "null"},
	} {
		for _, d := range []Depth{Full, Lazy} {
			s := scanner(d)
			for range 3 {
				if err := s.Scan([]byte(`{"e":0,"z":{"q":1},"a":{"b":{"c":0}}}`)); err != nil {
					t.Fatal(err)
				}
				if err := s.Scan([]byte(c.doc)); err != nil {
					t.Fatalf("%s: %v", c.doc, err)
				}
				get := func(path ...Step) string { return string(s.Slots[s.Trie().Add(path...)].Raw([]byte(c.doc))) }
				abc, a1, e := get(Step{Name: "a"}, Step{Name: "b"}, Step{Name: "c"}), get(Step{Name: "a"}, Step{Index: 1, IsIndex: true}), get(Step{Name: "e"})
				if abc != c.abc || a1 != c.a1 || e != c.e {
					t.Errorf("%s: got %q %q %q, want %q %q %q", c.doc, abc, a1, e, c.abc, c.a1, c.e)
				}
			}
		}
	}
}

// The order of keys may change, keys may come and go, and there may be more
// of them than are remembered: nothing is found otherwise than by a new scanner.
func TestOrderIsOnlyAGuess(t *testing.T) {
	s := scanner(Full)
	for i := range 2000 {
		var b strings.Builder
		b.WriteString("{")
		for k := range 5 {
			b.WriteString(`"k` + strconv.Itoa(i*7+k*k) + `":` + strconv.Itoa(k) + ",")
		}
		if i%3 == 0 {
			b.WriteString(`"e":` + strconv.Itoa(i) + ",")
		}
		b.WriteString(`"a":{"b":{"c":` + strconv.Itoa(i) + `}}}`)
		fresh := scanner(Full)
		doc := []byte(b.String())
		if err := s.Scan(doc); err != nil {
			t.Fatal(err)
		}
		if err := fresh.Scan(doc); err != nil {
			t.Fatal(err)
		}
		for id := range s.Slots {
			if s.Slots[id] != fresh.Slots[id] {
				t.Fatalf("%s: slot %d is %v, want %v", doc, id, s.Slots[id], fresh.Slots[id])
			}
		}
	}
	if n := len(s.orders[0].keys); n > keysMax {
		t.Errorf("%d keys are remembered, want at most %d", n, keysMax)
	}
}

func TestManyFields(t *testing.T) {
	trie := NewTrie()
	var doc strings.Builder
	doc.WriteString("{")
	ids := make([]int, 300)
	for i := range ids {
		ids[i] = trie.Add(Step{Name: "field" + strconv.Itoa(i)})
		if i > 0 {
			doc.WriteString(",")
		}
		doc.WriteString(`"field` + strconv.Itoa(i) + `":` + strconv.Itoa(i))
	}
	doc.WriteString("}")
	s := NewScanner(trie, Full)
	for range 3 {
		if err := s.Scan([]byte(doc.String())); err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			if got := string(s.Slots[id].Raw([]byte(doc.String()))); got != strconv.Itoa(i) {
				t.Fatalf("field%d is %q", i, got)
			}
		}
	}
}

func TestNumberOf(t *testing.T) {
	for _, c := range []struct {
		raw  string
		want Num
		ok   bool
	}{
		{"0", Num{}, true},
		{"-0", Num{}, true},
		{"9007199254740993", Num{Int: 9007199254740993}, true},
		{"9223372036854775807", Num{Int: 9223372036854775807}, true},
		{"-9223372036854775808", Num{Int: -9223372036854775808}, true},
		{"9223372036854775808", Num{Float: 9223372036854775808, IsFloat: true}, true},
		{"1.0", Num{Float: 1, IsFloat: true}, true},
		{"-2.5", Num{Float: -2.5, IsFloat: true}, true},
		{"0.1", Num{Float: 0.1, IsFloat: true}, true},
		{"1e2", Num{Float: 100, IsFloat: true}, true},
		{"123456789012.345", Num{Float: 123456789012.345, IsFloat: true}, true},
		{"0.30000000000000004", Num{Float: 0.30000000000000004, IsFloat: true}, true},
		{"1e400", Num{}, false},
	} {
		got, ok := NumberOf([]byte(c.raw))
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: got %v %t, want %v %t", c.raw, got, ok, c.want, c.ok)
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, file := range []string{"accept.txt", "reject.txt", "not_object.txt"} {
		for _, v := range vectors(f, file) {
			f.Add([]byte(v.doc))
		}
	}
	warm := scanner(Full)
	f.Fuzz(func(t *testing.T, doc []byte) {
		err := warm.Scan(doc)
		// encoding/json differs in two ways: it replaces invalid UTF-8 instead of
		// refusing it, and it allows ten times the depth.
		want := stdjson.Valid(doc) && utf8.Valid(doc)
		if e := Check(doc); (e == nil) != want && !tooDeep(e) {
			t.Fatalf("Check(%q) = %v, encoding/json says %t", doc, e, want)
		}
		isObject := len(untab(doc)) > 0 && untab(doc)[0] == '{'
		if (err == nil) != (want && isObject) && !tooDeep(err) {
			t.Fatalf("Scan(%q) = %v, encoding/json says %t", doc, err, want)
		}
		if err != nil {
			return
		}
		compareFields(t, warm, doc)
		lazy := scanner(Lazy)
		if err := lazy.Scan(doc); err != nil {
			t.Fatalf("lazy Scan(%q) = %v", doc, err)
		}
		for id := range lazy.Slots {
			if lazy.Slots[id] != warm.Slots[id] {
				t.Fatalf("%q: lazy slot %d is %v, want %v", doc, id, lazy.Slots[id], warm.Slots[id])
			}
		}
	})
}

func tooDeep(err error) bool { return err != nil && strings.Contains(err.Error(), "nested deeper") }

// untab cuts leading white space.
func untab(doc []byte) []byte { return doc[space(doc, 0):] }

// compareFields holds slot e, strings and lists to what encoding/json decodes.
func compareFields(t *testing.T, s *Scanner, doc []byte) {
	var want map[string]stdjson.RawMessage
	if err := stdjson.Unmarshal(doc, &want); err != nil {
		t.Fatal(err)
	}
	raw := s.Slots[s.Trie().Add(Step{Name: "e"})].Raw(doc)
	if w, ok := want["e"]; ok != (raw != nil) || string(w) != string(raw) {
		t.Fatalf("%q: e is %q, want %q", doc, raw, w)
	}
	for it := Over(Trim(doc)); it.Next(); {
		key := string(it.AppendKey(nil))
		if _, ok := want[key]; !ok {
			t.Fatalf("%q: the key %q is not in %v", doc, key, want)
		}
		if KindOf(it.Value) != String {
			continue
		}
		var w string
		if err := stdjson.Unmarshal(it.Value, &w); err != nil {
			t.Fatal(err)
		}
		got := Unescape(nil, it.Value[1:len(it.Value)-1])
		if string(got) != w {
			t.Fatalf("%s is %q, want %q", it.Value, got, w)
		}
		var back string
		if err := stdjson.Unmarshal(AppendString(nil, got), &back); err != nil || back != w {
			t.Fatalf("%q is written as %s", w, AppendString(nil, got))
		}
	}
}

func FuzzAppendFloat(f *testing.F) {
	for _, x := range []float64{0, 1, -1.5, 1e-7, 1e21, 1e20, 123456789, 1e15, 0.1} {
		f.Add(x)
	}
	f.Fuzz(func(t *testing.T, x float64) {
		want, err := stdjson.Marshal(x)
		if err != nil {
			return // NaN and infinities
		}
		if got := AppendFloat(nil, x); string(got) != string(want) {
			t.Fatalf("%v is written as %s, want %s", x, got, want)
		}
	})
}

func FuzzNumberOf(f *testing.F) {
	f.Add("1.5")
	f.Add("-0")
	f.Add("123456789012345678")
	f.Fuzz(func(t *testing.T, raw string) {
		if KindOf([]byte(raw)) != Number || !stdjson.Valid([]byte(raw)) || strings.TrimSpace(raw) != raw {
			return
		}
		got, ok := NumberOf([]byte(raw))
		i, err := strconv.ParseInt(raw, 10, 64)
		if err == nil {
			if !ok || got != (Num{Int: i}) {
				t.Fatalf("%s: got %v, want %d", raw, got, i)
			}
			return
		}
		x, err := strconv.ParseFloat(raw, 64)
		if ok != (err == nil) || ok && (!got.IsFloat || got.Float != x) {
			t.Fatalf("%s: got %v %t, want %v %v", raw, got, ok, x, err)
		}
	})
}

func TestScanAllocates(t *testing.T) {
	s := scanner(Full)
	doc := []byte(`{"a":{"b":{"c":"x\ny"}},"u":[1,{"v":"w"}],"e":12.5,"\u0065":7}`)
	if n := testing.AllocsPerRun(100, func() {
		if err := s.Scan(doc); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("allocations per scan = %v, want 0", n)
	}
}

// TestEveryByteInAString: each byte at each place of a word, and next to
// what makes a subtraction borrow.
func TestEveryByteInAString(t *testing.T) {
	for _, fill := range []string{"a", "!", "\x7f", " "} {
		for c := range 256 {
			for at := range 34 {
				doc := []byte(`{"k":"` + strings.Repeat(fill, at) + string([]byte{byte(c)}) + strings.Repeat(fill, 33-at) + `","l":1}`)
				want := stdjson.Valid(doc) && utf8.Valid(doc)
				if err := Check(doc); (err == nil) != want {
					t.Fatalf("byte %#02x after %d: %v, want valid %v", c, at, err, want)
				}
			}
		}
	}
}
