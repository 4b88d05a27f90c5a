package admin

import "strings"

// Meta is stored with every committed offset: what it counts in. A topic that
// was deleted and created again has another identity, a topic of the same name
// elsewhere another cluster, and the offsets mean other records there.
type Meta struct {
	Topic   string // id
	Cluster string // id
	// Rewind is the id of the last rewind of the partition; commits after it carry it on,
	// so that whoever completes a rewind after a crash knows that it was done.
	Rewind string
}

const metaPrefix = "keystone "

// String gives the form that is committed; "" if nothing is known.
func (m Meta) String() string {
	var b strings.Builder
	for _, f := range [...]struct{ name, value string }{{"topic", m.Topic}, {"cluster", m.Cluster}, {"rewind", m.Rewind}} {
		if f.value == "" || strings.Contains(f.value, " ") {
			continue
		}
		if b.Len() == 0 {
			b.WriteString(metaPrefix)
		} else {
			b.WriteByte(' ')
		}
		b.WriteString(f.name + "=" + f.value)
	}
	return b.String()
}

// ParseMeta reads what String gives; it is empty where another tool committed.
func ParseMeta(s string) Meta {
	var m Meta
	rest, ok := strings.CutPrefix(s, metaPrefix)
	if !ok {
		return m
	}
	for f := range strings.FieldsSeq(rest) {
		switch name, value, _ := strings.Cut(f, "="); name {
		case "topic":
			m.Topic = value
		case "cluster":
			m.Cluster = value
		case "rewind":
			m.Rewind = value
		}
	}
	return m
}
