package json

// Step is one step of a path: the name of a field, or the index of a list
// from 0. Indices that count from the end are not for a Trie.
type Step struct {
	Name    string
	Index   int
	IsIndex bool
}

// Trie is a set of paths. Each path, and each of its beginnings, has a number
// that indexes a Scanner's Slots; the whole document is number 0. Once
// a Scanner is made of it, a Trie must not change.
type Trie struct{ nodes []node }

type node struct {
	parent  int32
	step    Step
	wanted  bool             // it was added itself, not only what is below it
	fields  []int32          // children by name
	indices []int32          // children by index
	byName  map[string]int32 // children by name, where there are many
}

const fewFields = 8 // up to so many children are searched in a row

// NewTrie makes a set that has only the whole document.
func NewTrie() *Trie { return &Trie{nodes: []node{{parent: -1}}} }

// Len gives how many numbers there are.
func (t *Trie) Len() int { return len(t.nodes) }

// Parent gives the number of the path without its last step, -1 for the root.
func (t *Trie) Parent(id int) int { return int(t.nodes[id].parent) }

// Step gives the last step of the path.
func (t *Trie) Step(id int) Step { return t.nodes[id].step }

// Add gives the number of a path, the same for equal paths.
func (t *Trie) Add(path ...Step) int {
	id := int32(0)
	for _, s := range path {
		id = t.child(id, s)
	}
	t.nodes[id].wanted = true
	return int(id)
}

func (t *Trie) child(id int32, s Step) int32 {
	n := &t.nodes[id]
	if s.IsIndex {
		for _, c := range n.indices {
			if t.nodes[c].step.Index == s.Index {
				return c
			}
		}
	} else {
		for _, c := range n.fields {
			if t.nodes[c].step.Name == s.Name {
				return c
			}
		}
	}
	c := int32(len(t.nodes))
	if s.IsIndex {
		n.indices = append(n.indices, c)
	} else {
		n.fields = append(n.fields, c)
		if len(n.fields) > fewFields {
			if n.byName == nil {
				n.byName = make(map[string]int32)
				for _, f := range n.fields[:len(n.fields)-1] {
					n.byName[t.nodes[f].step.Name] = f
				}
			}
			n.byName[s.Name] = c
		}
	}
	t.nodes = append(t.nodes, node{parent: id, step: s})
	return c
}

// field finds the child with the name, or -1.
func (t *Trie) field(id int32, name []byte) int32 {
	n := &t.nodes[id]
	if n.byName != nil {
		if c, ok := n.byName[string(name)]; ok {
			return c
		}
		return -1
	}
	for _, c := range n.fields {
		if t.nodes[c].step.Name == string(name) {
			return c
		}
	}
	return -1
}

func (t *Trie) index(id int32, i int) int32 {
	for _, c := range t.nodes[id].indices {
		if t.nodes[c].step.Index == i {
			return c
		}
	}
	return -1
}
