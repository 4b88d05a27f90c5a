package record

// GroupOffsets is what a transaction of a sink commits in the name of a group
// of readers: the positions, and the membership in which they were read. A broker
// takes them only from that member in that generation of the group.
type GroupOffsets struct {
	Group      string
	Member     string
	Instance   string // "": the member has no lasting name
	Generation int32
	Topic      string
	Offsets    []GroupOffset
}

// GroupOffset is the next offset to read of one partition.
type GroupOffset struct {
	Partition   int32
	Offset      int64
	LeaderEpoch int32 // -1: unknown
	Metadata    string
}
