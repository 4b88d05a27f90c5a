package eval

import (
	"strconv"

	"keystone/pipeline/json"
)

// Reads lists the paths of the input event that the program's expressions
// name, as device.type or tags[0], in the order in which they are first named.
func (p *Program) Reads() []string {
	out := make([]string, len(p.in.paths))
	for i, id := range p.in.paths {
		out[i] = pathName(p.in.trie, id)
	}
	return out
}

func pathName(t *json.Trie, id int) string {
	step := t.Step(id)
	prefix := ""
	if parent := t.Parent(id); parent > 0 {
		prefix = pathName(t, parent)
	}
	switch {
	case step.IsIndex:
		return prefix + "[" + strconv.Itoa(step.Index) + "]"
	case prefix == "":
		return step.Name
	}
	return prefix + "." + step.Name
}

// Seen sets those of seen, one for each path of Reads, that the last record
// had, null or not. It means nothing after a decode error.
func (e *Eval) Seen(seen []bool) {
	for i, id := range e.p.in.paths {
		if e.in.slots[id].Kind != json.Missing {
			seen[i] = true
		}
	}
}
