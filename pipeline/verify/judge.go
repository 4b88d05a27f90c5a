package verify

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/pipeline/record"
)

// Kind is what a program makes of a record.
type Kind uint8

// The kinds.
const (
	Outputs  Kind = iota // one or more outputs
	Filtered             // none
	Dropped              // none, because on_error or the policy for tombstones says so
	Letter               // a dead letter
	Stops                // nothing: the route does not get past it
	Unknown              // it cannot be said again: what passes depends on the time of evaluation
)

// Judge runs one program over records again. One goroutine at a time.
type Judge struct {
	Route    *configs.Route
	Revision int64

	eval    *eval.Eval
	digests *Digests
	out     record.Batch
	limit   int64
	onError configs.OnError
	loose   bool // what outputs hold depends on the time of evaluation
	blind   bool // and what passes does
}

// NewJudge makes a judge. The program is the route's, compiled.
func NewJudge(route *configs.Route, revision int64, program *eval.Program, d *Digests) *Judge {
	j := &Judge{Route: route, Revision: revision, eval: program.NewEval(), digests: d, limit: route.Limits.MaxRecordBytes, onError: route.OnError}
	if j.onError == "" {
		j.onError = configs.StopRoute
	}
	c := route.Checked
	j.blind = timed(c.Filter...) || timed(c.Explode)
	j.loose = timed(c.Key) || timedOutputs(c.Project) || timedOutputs(c.Set) || timedOutputs(c.Headers)
	return j
}

// timed tells that an expression asks for the time.
func timed(es ...*ir.Expr) (found bool) {
	for _, e := range es {
		if e == nil {
			continue
		}
		e.Root.Walk(func(n *ir.Node) bool {
			found = found || n.Func != nil && n.Func.Name == "now"
			return !found
		})
	}
	return found
}

func timedOutputs(os []ir.Output) bool {
	for _, o := range os {
		if timed(o.Expr) || timedOutputs(o.Object) {
			return true
		}
	}
	return false
}

// Run says what becomes of record i, with the digests of its outputs appended
// to dst, and why: the code of an error, or the reason of a drop.
func (j *Judge) Run(in *record.Batch, i int, dst []uint64) (Kind, string, []uint64) {
	if j.blind {
		return Unknown, ReasonNow, dst
	}
	r := &in.Records[i]
	if r.Bad != record.Whole {
		return j.failed(r, r.Bad.String(), dst)
	}
	if j.limit > 0 && int64(len(r.Value)) > j.limit {
		return j.failed(r, "too_large", dst)
	}
	j.out.Reset()
	verdict, e := j.eval.Run(in, i, &j.out)
	switch verdict {
	case eval.Filtered:
		return Filtered, "", dst
	case eval.Dropped:
		return Dropped, "tombstone", dst
	case eval.Failed:
		return j.failed(r, strings.Clone(e.Code), dst)
	}
	if len(j.out.Records) == 0 {
		return Filtered, "", dst
	}
	for k := range j.out.Records {
		dst = append(dst, j.digest(&j.out.Records[k]))
	}
	return Outputs, "", dst
}

func (j *Judge) failed(r *record.Record, code string, dst []uint64) (Kind, string, []uint64) {
	switch j.onError {
	case configs.DeadLetter:
		return Letter, code, dst
	case configs.DropRecord:
		return Dropped, code, dst
	case configs.PassRecord:
		if r.Bad != record.Whole {
			return Dropped, code, dst
		}
		return Outputs, "passed", append(dst, j.digest(r))
	}
	return Stops, code, dst
}

func (j *Judge) digest(r *record.Record) uint64 {
	if j.loose {
		return anything
	}
	return j.digests.Of(r)
}

// Digests gives numbers that stand for the content of records: key, value and
// headers but those that are left out. They are of one process: the seed is drawn.
type Digests struct {
	hash maphash.Hash
	not  string
}

// anything is the digest of an output whose content cannot be known again.
const anything = 0

// NewDigests makes digests without the header that says where a record came from.
func NewDigests(originHeader string) *Digests {
	d := &Digests{not: originHeader}
	d.hash.SetSeed(maphash.MakeSeed())
	return d
}

// Of gives a record's digest; it is never 0.
func (d *Digests) Of(r *record.Record) uint64 {
	h := &d.hash
	h.Reset()
	d.put(r.Key, r.Key != nil)
	d.put(r.Value, r.Value != nil)
	for i := range r.Headers {
		if r.Headers[i].Key == d.not {
			continue
		}
		d.putLen(len(r.Headers[i].Key), true)
		_, _ = h.WriteString(r.Headers[i].Key) // it never fails
		d.put(r.Headers[i].Value, true)        // of a header, nil and empty are the same
	}
	return max(h.Sum64(), 1)
}

func (d *Digests) put(b []byte, there bool) {
	d.putLen(len(b), there)
	_, _ = d.hash.Write(b)
}

func (d *Digests) putLen(n int, there bool) {
	var b [9]byte
	if there {
		b[0] = 1
	}
	binary.LittleEndian.PutUint64(b[1:], uint64(n))
	_, _ = d.hash.Write(b[:])
}

// Holds tells whether an output with a digest is among those of a program.
func Holds(digests []uint64, digest uint64) bool {
	return slices.Contains(digests, digest) || slices.Contains(digests, anything)
}

// Difference says which part of an output is not as the program gives it for
// record i. It shows no values.
func (j *Judge) Difference(in *record.Batch, i int, got *record.Record) string {
	kind, _, _ := j.Run(in, i, nil)
	want := j.out.Records
	switch {
	case kind != Outputs:
		return ""
	case len(want) != 1:
		return fmt.Sprintf("it is none of the record's %d outputs", len(want))
	case !bytes.Equal(want[0].Value, got.Value) || (want[0].Value == nil) != (got.Value == nil):
		return fmt.Sprintf("its value of %d bytes is not the program's, of %d", len(got.Value), len(want[0].Value))
	case !bytes.Equal(want[0].Key, got.Key) || (want[0].Key == nil) != (got.Key == nil):
		return "its key is not the program's"
	}
	return "its headers are not the program's"
}
