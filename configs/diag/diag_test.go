package diag

import (
	"testing"
)

func TestNearest(t *testing.T) {
	words := []string{"from", "filter", "project", "path", "batch", "elasticsearch"}
	for given, want := range map[string]string{
		"form": "from", "fitler": "filter", "projct": "project", "rate": "", "batc": "batch", "elastcsearch": "elasticsearch",
		"": "", "x": "", "from": "from", "filtering": "", "prjct": "project",
	} {
		if got := Nearest(given, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", given, got, want)
		}
	}
}

func TestSort(t *testing.T) {
	at := func(file string, b int) Range { return Range{File: file, Start: Pos{Line: 1, Byte: b}} }
	d := func(file string, b int, code string) Diagnostic {
		return Diagnostic{Severity: Error, Code: code, Range: at(file, b)}
	}
	got := Diagnostics{d("b", 1, "2"), d("a", 2, "1"), d("a", 1, "3"), d("a", 1, "3"), d("a", 1, "1")}.Sort()
	want := Diagnostics{d("a", 1, "1"), d("a", 1, "3"), d("a", 2, "1"), d("b", 1, "2")}
	if len(got) != len(want) {
		t.Fatal(got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d: %v, want %v", i, got[i], want[i])
		}
	}
}

func TestErr(t *testing.T) {
	var ds Diagnostics
	ds.Warnf(Range{}, "KS0001", "Odd", "It is odd.")
	if ds.HasErrors() || ds.Err() != nil {
		t.Error("a warning is no error")
	}
	ds.Addf(Range{File: "f", Start: Pos{Line: 2, Column: 3}}, "KS0002", "Bad", "It is %d.", 5)
	if err := ds.Err(); err == nil || err.Error() != "f:2:3: Bad (KS0002): It is 5." {
		t.Errorf("%v", err)
	}
}

// TestTextAt maps runes of `a"é` written as `a\"é` from line 3, column 5, byte 20 on.
func TestTextAt(t *testing.T) {
	text := Text{S: "a\"é", Range: Range{File: "f", Start: Pos{3, 4, 19}, End: Pos{3, 9, 26}}, Runs: []Run{
		{Rune: 0, Line: 3, Column: 5, Byte: 20, Bytes: 1, Columns: 1},
		{Rune: 1, Line: 3, Column: 6, Byte: 21, Bytes: 2, Columns: 2},
		{Rune: 2, Line: 3, Column: 8, Byte: 23, Bytes: 2, Columns: 1},
	}}
	for _, c := range []struct {
		start, end int
		want       Range
	}{
		{0, 1, Range{"f", Pos{3, 5, 20}, Pos{3, 6, 21}}},
		{1, 2, Range{"f", Pos{3, 6, 21}, Pos{3, 8, 23}}},
		{1, 3, Range{"f", Pos{3, 6, 21}, Pos{3, 9, 25}}},
		{3, 3, Range{"f", Pos{3, 9, 25}, Pos{3, 9, 25}}},
		{9, 12, Range{"f", Pos{3, 9, 25}, Pos{3, 9, 25}}},
		{-1, 0, Range{"f", Pos{3, 5, 20}, Pos{3, 6, 21}}},
	} {
		if got := text.At(c.start, c.end); got != c.want {
			t.Errorf("At(%d, %d) = %v, want %v", c.start, c.end, got, c.want)
		}
	}
	text.Runs = nil
	if got := text.At(1, 2); got != text.Range {
		t.Errorf("without runs: %v", got)
	}
}
