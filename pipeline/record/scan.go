package record

import "slices"

// Scan is what a route needs of its events, for sources that keep them in
// columns and need not read the rest. Its zero value needs nothing: say All where it is not known.
type Scan struct {
	// All tells that whole events are needed; else Fields are the top-level
	// fields that are, sorted, each once.
	All    bool
	Fields []string
	// Bounds hold for every event that passes the filter. An event for which one does not
	// hold need not be read: it would be filtered, unless an expression fails on it.
	Bounds []Bound
}

// Bound is a condition that holds for a field, which is then not nil.
type Bound struct {
	Path   []string
	Op     string // "=", "<", "<=", ">", ">=", "in"
	Values []any  // one; of "in" any number: bool, int64, float64, string, time.Time
}

// Covers tells whether what is read for s is enough for other, too.
func (s Scan) Covers(other Scan) bool {
	if !s.All && (other.All || slices.ContainsFunc(other.Fields, func(f string) bool { return !slices.Contains(s.Fields, f) })) {
		return false
	}
	for _, b := range s.Bounds { // what it leaves out, the other must leave out
		if !slices.ContainsFunc(other.Bounds, func(o Bound) bool {
			return o.Op == b.Op && slices.Equal(o.Path, b.Path) && slices.Equal(o.Values, b.Values)
		}) {
			return false
		}
	}
	return true
}
