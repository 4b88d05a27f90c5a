package types

// Join gives the type of a value that is of either type: nil adds nothing,
// two forms of time are a time, and otherwise types that differ are any
// (an int stays an int beside a float, so the pair is any, too).
func Join(a, b Type) Type {
	switch {
	case a.Kind == Nil:
		return b
	case b.Kind == Nil:
		return a
	case Equal(a, b):
		a.Sensitive = a.Sensitive || b.Sensitive
		return a
	case a.IsTime() && b.IsTime():
		return Type{Kind: TimestampRFC3339, Sensitive: a.Sensitive || b.Sensitive}
	case a.Kind == List && b.Kind == List:
		return ListOf(Join(*a.Elem, *b.Elem))
	}
	return Type{Kind: Any, Sensitive: a.Sensitive || b.Sensitive}
}
