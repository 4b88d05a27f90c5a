package graph

import (
	"io"

	"github.com/emicklei/dot"
)

// DOT writes the graph in Graphviz's language.
func DOT(w io.Writer, g Graph) error {
	d := dot.NewGraph(dot.Directed)
	d.Attr("rankdir", "LR")
	nodes := map[string]dot.Node{}
	for _, n := range g.Nodes {
		l := n.look()
		node := d.Node(n.Addr.String()).Label(n.Label()).Attr("shape", l.shape).Attr("style", "filled").Attr("fillcolor", l.fill)
		if n.Off {
			node.Attr("style", "filled,dashed")
		}
		nodes[n.Addr.String()] = node
	}
	for _, e := range g.Edges {
		from, to := nodes[e.From.String()], nodes[e.To.String()]
		edge := d.Edge(from, to)
		if e.Dead {
			edge.Attr("style", "dashed").Attr("label", "dead letters")
		}
	}
	_, err := io.WriteString(w, d.String())
	return err
}
