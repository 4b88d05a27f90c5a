package diag

import "sort"

// Text is text decoded from a string in a file, with the way back: for each
// rune of S the place in the file that it was written as. Expressions are
// Texts, so that an error inside one points at the exact token of the file.
//
// It is stored with the goal state, so it marshals to JSON compactly.
type Text struct {
	S     string `json:"s"`
	Range Range  `json:"range"` // of the whole value in the file, quotes included
	Runs  []Run  `json:"runs,omitempty"`
}

// Run maps consecutive runes of a Text that were each written with the same
// number of bytes and columns on one line. Rune i of the run (counting from
// 0) starts at {Line, Column + i*Columns, Byte + i*Bytes}. Where runes have
// different widths, a new run begins.
type Run struct {
	Rune    int `json:"r"` // index of the first rune in the text
	Line    int `json:"l"`
	Column  int `json:"c"`
	Byte    int `json:"b"`
	Bytes   int `json:"n"` // bytes in the file per rune
	Columns int `json:"w"` // columns in the file per rune
}

// At gives the range of the runes [start, end) of the text. Positions beyond
// the text give the place just after it. Without runs it gives the range of the whole.
func (t Text) At(start, end int) Range {
	if len(t.Runs) == 0 {
		return t.Range
	}
	n := len([]rune(t.S))
	start, end = min(max(start, 0), n), min(max(end, start), n)
	if start == end {
		if start == n {
			p := t.after(n - 1)
			return Range{File: t.Range.File, Start: p, End: p}
		}
		end = start + 1
	}
	return Range{File: t.Range.File, Start: t.pos(start), End: t.after(end - 1)}
}

func (t Text) run(rune int) Run {
	i := sort.Search(len(t.Runs), func(i int) bool { return t.Runs[i].Rune > rune })
	return t.Runs[max(i-1, 0)]
}

func (t Text) pos(rune int) Pos {
	r := t.run(rune)
	k := rune - r.Rune
	return Pos{Line: r.Line, Column: r.Column + k*r.Columns, Byte: r.Byte + k*r.Bytes}
}

func (t Text) after(rune int) Pos { // the position just after a rune
	if rune < 0 {
		return t.Range.Start
	}
	r := t.run(rune)
	k := rune - r.Rune + 1
	return Pos{Line: r.Line, Column: r.Column + k*r.Columns, Byte: r.Byte + k*r.Bytes}
}

// LineText gives a text that stands by itself, such as an expression of the
// command line, its positions: the text is its own file.
func LineText(file, s string) Text {
	t := Text{S: s, Range: Range{File: file, Start: Pos{Line: 1, Column: 1}}}
	line, column, at, rune := 1, 1, 0, 0
	for _, r := range s {
		n := len(string(r))
		last := len(t.Runs) - 1
		if last < 0 || t.Runs[last].Bytes != n || t.Runs[last].Line != line {
			t.Runs = append(t.Runs, Run{Rune: rune, Line: line, Column: column, Byte: at, Bytes: n, Columns: 1})
		}
		rune, at, column = rune+1, at+n, column+1
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	t.Range.End = Pos{Line: line, Column: column, Byte: at}
	return t
}
