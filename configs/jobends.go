package configs

import (
	"slices"

	"keystone/configs/addr"
)

// OperatorKinds are the kinds of a job's operators.
func OperatorKinds() []string {
	return []string{"read", "filter", "project", "explode", "dedup", "union", "split", "lookup", "join", "window", "aggregate", "top", "write"}
}

// Ends gives what the job refers to: what it reads, what it writes and where its dead letters go, each once.
func (j *Job) Ends() []addr.Addr {
	var out []addr.Addr
	add := func(a addr.Addr) {
		if !a.IsZero() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	for _, o := range j.Operators {
		switch {
		case o.Read != nil:
			add(o.Read.From.Addr)
		case o.Lookup != nil:
			add(o.Lookup.From.Addr)
		case o.Write != nil:
			add(o.Write.To.Addr)
		}
	}
	add(j.DeadLetter.Addr)
	return out
}

// Reads tells whether the job reads a stream or source.
func (j *Job) Reads(a addr.Addr) bool {
	return j != nil && slices.ContainsFunc(j.Operators, func(o *Operator) bool {
		return o.Read != nil && o.Read.From.Addr == a || o.Lookup != nil && o.Lookup.From.Addr == a
	})
}

// Writes tells whether the job writes a stream or sink.
func (j *Job) Writes(a addr.Addr) bool {
	return j != nil && slices.ContainsFunc(j.Operators, func(o *Operator) bool { return o.Write != nil && o.Write.To.Addr == a })
}

// Begins says in words where the job reads from when it has no state.
func (j *Job) Begins() string {
	start := ""
	for _, o := range j.Operators {
		if o.Read == nil {
			continue
		}
		if start != "" && start != o.Read.Start {
			return "where each read begins"
		}
		start = o.Read.Start
	}
	switch start {
	case "", "earliest":
		return "the start"
	case "latest":
		return "the end"
	}
	return "the first record since " + start
}
