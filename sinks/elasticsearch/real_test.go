package elasticsearch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keystone/sinks"
)

// TestRealRepeats: what is written again with the same id and version changes nothing, a newer generation or
// program replaces, and one that was left behind does not.
func TestRealRepeats(t *testing.T) {
	l := shared(t)
	index := l.index()
	c := config(t, index, l.urls...)
	d := deps()
	s := opened(t, c, d)
	for range 3 {
		if err := write(s, numbers(0, 0, 100)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, version int64, last string) {
		t.Helper()
		docs := l.docs(index)
		if len(docs) != 100 {
			t.Fatalf("%s: %d documents, want 100", what, len(docs))
		}
		for _, doc := range docs {
			if doc.Version != version {
				t.Fatalf("%s: document %s has version %d, want %d", what, doc.Source, doc.Version, version)
			}
		}
		if got := string(docs[0].Source); got != last {
			t.Fatalf("%s: the first is %s, want %s", what, got, last)
		}
	}
	check("three times", 1, `{"p":0,"n":0}`)

	again := func(generation, revision int64) {
		t.Helper()
		d.Generation = generation
		s := opened(t, c, d)
		b := numbers(0, 0, 100)
		b.Revision = revision
		for i := range b.Records {
			b.Records[i].Value = fmt.Appendf(nil, `{"p":0,"n":%d,"r":"%d.%d"}`, i, generation, revision)
		}
		if rejected, _ := insist(t, s, b); len(rejected) > 0 {
			t.Fatalf("rejected: %v", rejected)
		}
	}
	again(2, 1)
	check("after a rewind", 2<<32|1, `{"p":0,"n":0,"r":"2.1"}`)
	again(1, 7) // a worker from before the rewind
	check("a zombie", 2<<32|1, `{"p":0,"n":0,"r":"2.1"}`)
	again(2, 3)
	check("another program", 2<<32|3, `{"p":0,"n":0,"r":"2.3"}`)
}

// TestRealIDs: an id tells routes, topics, partitions, offsets and the outputs of one record apart.
func TestRealIDs(t *testing.T) {
	l := shared(t)
	index := l.index()
	n := int64(0)
	for _, id := range []string{"a", "b"} {
		d := deps()
		d.ID = id
		s := opened(t, config(t, index, l.urls...), d)
		for _, topic := range []string{"", "x"} {
			for _, part := range []int32{0, 1} {
				b := batch(part, 5, row{value: value(part, n)}, row{value: value(part, n+1)}, row{value: value(part, n+2)})
				b.Next.Identity = topic
				b.Records[1].Offset, b.Records[1].Child = 5, 1
				n += 3
				if err := write(s, b); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if got := int64(len(l.docs(index))); got != n {
		t.Errorf("%d documents, want %d", got, n)
	}
}

// TestRealItems: each item of a bulk has its own outcome; what is refused says why, and the rest is there.
func TestRealItems(t *testing.T) {
	l := shared(t)
	index := l.index()
	c := config(t, "{i}", l.urls...)
	c.ID = text("id")
	s := opened(t, c, deps())
	good := func(id string, n int64) row { return row{value(0, n), []string{index, id}} }
	err := write(s, batch(0, 0,
		good("a", 0),
		row{`{"p":"seven","n":1}`, []string{index, "b"}},
		row{`{"p":0,"n":2,"n":3}`, []string{index, "c"}},
		row{` [1]`, []string{index, "d"}},
		row{value(0, 4), []string{index, "nil"}},
		row{value(0, 4), []string{index, strings.Repeat("é", 257)}},
		row{value(0, 4), []string{index, "\xff"}},
		row{value(0, 4), []string{"nil", "e"}},
		row{value(0, 4), []string{"NOT LOWER", "e"}},
		row{value(0, 4), []string{"<clock-{now/d}>", "e"}},
		row{"{\n  \"p\": 0,\n  \"n\": 5, \"t\": \"a\\nb\"\n}\n", []string{index, `q"uo\te/<&> ü`}},
		row{"", []string{index, "nil"}},
		row{`{"p":0,"n":6} {"p":0}`, []string{index, "f"}},
		row{`{}`, []string{index, "g"}},
		good("h", 7),
	))
	equal(t, "failures", failures(t, err), []string{
		"1 rejected document_parsing_exception", "2 rejected document_parsing_exception", "3 rejected not_an_object",
		"4 rejected no_id", "5 rejected id_too_long", "6 rejected id_not_utf8", "7 rejected no_index",
		"8 rejected invalid_index_name_exception", "9 rejected index_name", "11 rejected no_id",
		"12 rejected illegal_argument_exception",
	})
	var partial *sinks.PartialError
	if !errors.As(err, &partial) {
		t.Fatal(err)
	}
	for _, f := range partial.Failures {
		if f.Index == 1 && (!strings.Contains(f.Err.Error(), "failed to parse field [p] of type [integer]") || !strings.Contains(f.Err.Error(), "seven")) {
			t.Errorf("the reason is not the server's: %v", f.Err)
		}
	}
	got := map[string]string{}
	for _, d := range l.docs(index) {
		got[d.ID] = string(d.Source)
	}
	want := map[string]string{"a": value(0, 0), "h": value(0, 7), "g": `{}`, `q"uo\te/<&> ü`: `{   "p": 0,   "n": 5, "t": "a\nb" } `}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for id, text := range want {
		if strings.TrimSpace(got[id]) != strings.TrimSpace(text) {
			t.Errorf("document %s is %q, want %q", id, got[id], text)
		}
	}
}

// TestRealActions: index, update, delete and external versions.
func TestRealActions(t *testing.T) {
	l := shared(t)
	state := func(index string) (out []string) {
		for _, d := range l.docs(index) {
			out = append(out, d.ID+" "+string(d.Source))
		}
		return out
	}
	t.Run("update", func(t *testing.T) {
		l := &lab{t: t, urls: l.urls}
		index := l.index()
		c := config(t, index, l.urls...)
		c.ID, c.Delete, c.Action = text("id"), text("gone"), Update
		s := opened(t, c, deps())
		r := func(id, gone, value string) row { return row{value, []string{index, id, gone}} }
		// Several of one document in one batch go one after the other.
		if err := write(s, batch(0, 0,
			r("a", "false", `{"p":0,"n":1}`), r("a", "nil", `{"x":1}`), r("b", "false", `{"p":0,"n":2}`), r("a", "false", `{"x":2,"y":{"z":1}}`),
			r("b", "true", `{"p":0}`), r("b", "false", `{"n":9}`), r("c", "true", `{}`), r("d", "false", `{"n":10}`), r("d", "nil", ""),
		)); err != nil {
			t.Fatal(err, failures(t, err))
		}
		equal(t, "documents", state(index), []string{`a {"p":0,"n":1,"x":2,"y":{"z":1}}`, `b {"n":9}`})
	})
	t.Run("index in order", func(t *testing.T) {
		l := &lab{t: t, urls: l.urls}
		index := l.index()
		c := config(t, index, l.urls...)
		c.ID, c.Delete = text("id"), text("gone")
		c.BatchRecords = 3 // requests of one batch follow each other
		s := opened(t, c, deps())
		if s.DefaultOrder() != "partition" {
			t.Errorf("default order %s", s.DefaultOrder())
		}
		var rows []row
		for n := range 50 {
			rows = append(rows, row{value(0, int64(n)), []string{index, fmt.Sprint("id", n%4), fmt.Sprint(n%7 == 0)}})
		}
		if err := write(s, batch(0, 0, rows...)); err != nil {
			t.Fatal(err)
		}
		equal(t, "documents", state(index), []string{"id2 " + value(0, 46), "id3 " + value(0, 47), "id0 " + value(0, 48)}) // 49 deletes id1
	})
	t.Run("versions", func(t *testing.T) {
		l := &lab{t: t, urls: l.urls}
		index := l.index()
		c := config(t, index, l.urls...)
		c.ID, c.Version, c.Delete = text("id"), text("v"), text("gone")
		s := opened(t, c, deps())
		if s.DefaultOrder() != "none" {
			t.Errorf("default order %s", s.DefaultOrder())
		}
		r := func(id, version, gone string, n int64) row {
			return row{value(0, n), []string{index, id, version, gone}}
		}
		err := write(s, batch(0, 0,
			r("a", "5", "false", 1), r("a", "3", "false", 2), r("b", "1", "false", 3), r("b", "4", "true", 4), r("b", "2", "false", 5),
			r("c", "9", "true", 6), r("c", "8", "false", 7), r("d", "nil", "false", 8), r("d", "-1", "false", 8), r("d", "2026-01-01", "false", 8),
			r("e", "0", "perhaps", 9), r("f", "0", "false", 10),
		))
		equal(t, "failures", failures(t, err), []string{
			"1 applied superseded", "4 applied superseded", "6 applied superseded", "7 rejected version", "8 rejected version", "9 rejected version",
			"10 rejected delete_not_bool",
		})
		equal(t, "documents", state(index), []string{"a " + value(0, 1), "f " + value(0, 10)})
	})
	t.Run("delete", func(t *testing.T) {
		l := &lab{t: t, urls: l.urls}
		index := l.index()
		c := config(t, index, l.urls...)
		c.ID = text("id")
		if err := write(opened(t, c, deps()), batch(0, 0, row{value(0, 1), []string{index, "a"}}, row{value(0, 2), []string{index, "b"}})); err != nil {
			t.Fatal(err)
		}
		c.Action = Delete
		err := write(opened(t, c, deps()), batch(0, 2, row{`{"anything":1}`, []string{index, "a"}}, row{"", []string{index, "c"}}))
		equal(t, "failures", failures(t, err), nil)
		equal(t, "documents", state(index), []string{"b " + value(0, 2)})
	})
}

// TestRealCreate: a conflict is a repeat only where that is known: this process asked for the document and had no answer, or the
// document says that it is of the same record and generation.
func TestRealCreate(t *testing.T) {
	l := shared(t)
	index := l.index()
	c := config(t, index, l.urls...)
	c.Action = Create
	d := deps()
	d.Generation = 1
	if err := write(opened(t, c, d), numbers(0, 0, 3)); err != nil {
		t.Fatal(err)
	}
	// Another process reads the same records again.
	equal(t, "after a crash", failures(t, write(opened(t, c, d), numbers(0, 1, 5))), []string{"0 applied repeated", "1 applied repeated"})
	d.Generation = 2
	equal(t, "after a rewind", failures(t, write(opened(t, c, d), numbers(0, 4, 6))), []string{"0 rejected conflict"})
	if got := len(l.docs(index)); got != 6 {
		t.Errorf("%d documents, want 6", got)
	}
	var ks struct {
		KS map[string]any `json:"_ks"`
	}
	if err := json.Unmarshal(l.docs(index)[5].Source, &ks); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(ks.KS), fmt.Sprint(map[string]any{"route": "route.test", "topic": "topic-1", "partition": 0, "offset": 5, "child": 0, "generation": 2}); got != want {
		t.Errorf("_ks is %s, want %s", got, want)
	}

	// With ids of the user, a document of another record is a conflict.
	c.ID = text("id")
	r := func(id string) row { return row{value(1, 0), []string{index, id}} }
	equal(t, "own ids", failures(t, write(opened(t, c, d), batch(1, 0, r("a"), r("b"), r("a")))), []string{"2 rejected conflict"})
	equal(t, "own ids again", failures(t, write(opened(t, c, d), batch(1, 0, r("a"), r("b"), r("a")))), []string{"0 applied repeated", "1 applied repeated", "2 rejected conflict"})

	// Without _ks nobody knows.
	c.Origin, c.OriginSaid = false, true
	s := opened(t, c, d)
	equal(t, "no origin", failures(t, write(s, batch(1, 0, r("a"), r("c")))), []string{"0 rejected conflict"})
	// But what this process asked for without an answer is its own.
	w := l.wall()
	c.URLs = []string{w.url}
	c.RequestTimeout = 1e9
	s = opened(t, c, d)
	w.poison("timeout", "downstream", `"timeout": 0`)
	equal(t, "no answer", failures(t, write(s, batch(1, 2, r("e"), r("f")))), []string{"0 unknown timeout", "1 unknown timeout"})
	w.heal()
	if rejected, _ := insist(t, s, batch(1, 2, r("e"), r("f"))); len(rejected) > 0 {
		t.Errorf("rejected: %v", rejected)
	}
	equal(t, "once answered", failures(t, write(s, batch(1, 2, r("e")))), []string{"0 rejected conflict"})
}

// TestRealPatterns: the index of an event is what the pattern gives.
func TestRealPatterns(t *testing.T) {
	l := shared(t)
	a, b := l.index(), l.index()
	c := config(t, "{x}", l.urls...)
	s := opened(t, c, deps())
	if err := write(s, batch(0, 0, row{value(0, 0), []string{a}}, row{value(0, 1), []string{b}}, row{value(0, 2), []string{a}})); err != nil {
		t.Fatal(err)
	}
	equal(t, "a", l.sources(a), []string{value(0, 0), value(0, 2)})
	equal(t, "b", l.sources(b), []string{value(0, 1)})
	l.call(http.MethodPost, "/_aliases", fmt.Sprintf(`{"actions":[{"add":{"index":%q,"alias":%q,"is_write_index":true}}]}`, b, b+"-alias"))
	if err := write(s, batch(0, 3, row{value(0, 3), []string{b + "-alias"}})); err != nil {
		t.Fatal(err)
	}
	equal(t, "alias", l.sources(b), []string{value(0, 1), value(0, 3)})
}
