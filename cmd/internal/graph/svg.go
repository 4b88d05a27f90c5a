package graph

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"keystone/configs/addr"
)

// Sizes in pixels.
const (
	boxHeight  = 32
	rowGap     = 16
	columnGap  = 90
	margin     = 20
	charWidth  = 7.3
	boxPadding = 24
	sweeps     = 8 // of the search for fewer crossings
)

type placed struct {
	Node
	x, y, width float64
}

// SVG draws the graph from left to right.
func SVG(w io.Writer, g Graph) error {
	columns := g.columns()
	at, width, height := place(columns)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="ui-monospace, monospace" font-size="12">`+"\n", width, height, width, height)
	b.WriteString(`<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#555"/></marker></defs>` + "\n")
	for _, e := range g.Edges {
		from, okFrom := at[e.From]
		to, okTo := at[e.To]
		if !okFrom || !okTo {
			continue
		}
		drawEdge(&b, from, to, e)
	}
	for _, column := range columns {
		for _, n := range column {
			drawNode(&b, at[n.Addr])
		}
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// columns layers the nodes by the longest way that leads to them, and orders
// each layer by the mean place of its neighbours, which undoes most crossings.
func (g Graph) columns() [][]Node {
	layer := map[addr.Addr]int{}
	// A flow without cycles settles in as many rounds as its longest way; one with a cycle, which
	// validate refuses, is cut off.
	for range len(g.Nodes) {
		moved := false
		for _, e := range g.Edges {
			if next := layer[e.From] + 1; next > layer[e.To] && next < len(g.Nodes) {
				layer[e.To], moved = next, true
			}
		}
		if !moved {
			break
		}
	}
	var out [][]Node
	for _, n := range g.Nodes {
		n.layer = layer[n.Addr]
		for n.layer >= len(out) {
			out = append(out, nil)
		}
		n.order = float64(len(out[n.layer]))
		out[n.layer] = append(out[n.layer], n)
	}
	out = slices.DeleteFunc(out, func(c []Node) bool { return len(c) == 0 })
	g.untangle(out)
	return out
}

func (g Graph) untangle(columns [][]Node) {
	before, after := map[addr.Addr][]addr.Addr{}, map[addr.Addr][]addr.Addr{}
	for _, e := range g.Edges {
		before[e.To] = append(before[e.To], e.From)
		after[e.From] = append(after[e.From], e.To)
	}
	order := map[addr.Addr]float64{}
	for _, c := range columns {
		for i, n := range c {
			order[n.Addr] = float64(i)
		}
	}
	arrange := func(c []Node, near map[addr.Addr][]addr.Addr) {
		for i := range c {
			if ns := near[c[i].Addr]; len(ns) > 0 {
				sum := 0.0
				for _, n := range ns {
					sum += order[n]
				}
				c[i].order = sum / float64(len(ns))
			} else {
				c[i].order = order[c[i].Addr]
			}
		}
		slices.SortStableFunc(c, func(a, b Node) int { return cmp.Compare(a.order, b.order) })
		for i, n := range c {
			order[n.Addr] = float64(i)
		}
	}
	for range sweeps {
		for _, c := range columns[min(1, len(columns)):] {
			arrange(c, before)
		}
		for i := len(columns) - 2; i >= 0; i-- {
			arrange(columns[i], after)
		}
	}
}

// place gives every node its box, with columns centred on the tallest.
func place(columns [][]Node) (at map[addr.Addr]placed, width, height float64) {
	at = map[addr.Addr]placed{}
	tallest := 0
	for _, c := range columns {
		tallest = max(tallest, len(c))
	}
	height = 2*margin + float64(tallest)*(boxHeight+rowGap) - rowGap
	x := float64(margin)
	for _, c := range columns {
		widest := 0.0
		for _, n := range c {
			widest = max(widest, float64(utf8.RuneCountInString(n.Label()))*charWidth+boxPadding)
		}
		y := margin + float64(tallest-len(c))*(boxHeight+rowGap)/2
		for _, n := range c {
			at[n.Addr] = placed{Node: n, x: x, y: y, width: widest}
			y += boxHeight + rowGap
		}
		x += widest + columnGap
	}
	return at, max(x-columnGap+margin, 2*margin), max(height, 2*margin)
}

func drawEdge(b *strings.Builder, from, to placed, e Edge) {
	x1, y1 := from.x+from.width, from.y+boxHeight/2
	x2, y2 := to.x, to.y+boxHeight/2
	bend := columnGap / 2.0
	dash := ""
	if e.Dead {
		dash = ` stroke-dasharray="4 3"`
	}
	fmt.Fprintf(b, `<path d="M%.1f %.1f C%.1f %.1f %.1f %.1f %.1f %.1f" fill="none" stroke="#555"%s marker-end="url(#arrow)"/>`+"\n", x1, y1, x1+bend, y1, x2-bend, y2, x2, y2, dash)
}

func drawNode(b *strings.Builder, p placed) {
	radius, dash := 3, ""
	if p.Addr.Type == "stream" {
		radius = boxHeight / 2
	}
	if p.Off {
		dash = ` stroke-dasharray="4 3"`
	}
	fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%d" rx="%d" fill="%s" stroke="#555"%s/>`, p.x, p.y, p.width, boxHeight, radius, p.look().fill, dash)
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle">`, p.x+p.width/2, p.y+boxHeight/2+4)
	_ = xml.EscapeText(b, []byte(p.Label())) // a Builder takes all
	b.WriteString("</text>\n")
}
