package job

import (
	"fmt"
	"strconv"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/pipeline/job/commit"
	"keystone/pipeline/json"
	"keystone/pipeline/record"
)

// Writers gives the operators that write, in the order of their numbers in commit.Out.
func Writers(j *configs.Job) []*configs.Operator {
	var out []*configs.Operator
	for _, o := range j.Operators {
		if o.Kind == "write" {
			out = append(out, o)
		}
	}
	return out
}

// writeStep makes rows of the epoch's outbox.
type writeStep struct {
	t       *task
	of      *configs.Operator
	w       *configs.JobWrite
	number  int
	e       *eval.Eval
	in, out record.Batch
	id, buf []byte
	c       *counts
}

func (t *task) buildWrite(o *configs.Operator) (step, error) {
	p, err := eval.Compile(o.Write.Program)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Name(), err)
	}
	w := &writeStep{t: t, of: o, w: o.Write, e: p.NewEval(), c: t.j.graph.counts[o]}
	for i, x := range Writers(t.j.cfg) {
		if x == o {
			w.number = i
		}
	}
	return w, nil
}

func (w *writeStep) row(r *row) error {
	w.c.in.add(1)
	rec := *r.rec
	if w.w.Revisions {
		w.buf = appendRevision(w.buf[:0], rec.Value, r.op, r.rev)
		rec.Value = w.buf
	}
	w.in.Topic, w.in.Partition = r.topic, r.partition
	w.in.Records = append(w.in.Records[:0], rec)
	w.out.Reset()
	verdict, err := w.e.Run(&w.in, 0, &w.out)
	if verdict == eval.Failed {
		return w.t.fail(w.of, r, err)
	}
	for i := range w.out.Records {
		rec := &w.out.Records[i]
		o := commit.Out{Writer: w.number, Key: rec.Key, Value: rec.Value, Headers: rec.Headers, Time: r.time, Derived: rec.Derived}
		if r.op == remove && !w.w.Revisions {
			o.Value = nil
		}
		if r.id != nil {
			w.id = append(append(w.id[:0], w.of.Label...), 0)
			w.id = append(w.id, r.id...)
			if w.w.Revisions {
				w.id = appendID(w.id, uint64(r.rev)<<2|uint64(r.op))
			}
			o.ID = w.id
		}
		w.c.out.add(1)
		w.t.write(&o)
	}
	return nil
}

// appendRevision appends a row with what it does and how often it was given before.
func appendRevision(dst, row []byte, what op, rev uint32) []byte {
	dst = appendOpen(dst, row)
	dst = append(append(append(dst, `"op":"`...), what.String()...), `","revision":`...)
	return append(strconv.AppendUint(dst, uint64(rev), 10), '}')
}

// appendOpen appends an object without its last brace, with a comma where a member is before it.
func appendOpen(dst, row []byte) []byte {
	n := len(row)
	for n > 0 && row[n-1] != '}' {
		n--
	}
	if n == 0 {
		return append(dst, '{')
	}
	dst = append(dst, row[:n-1]...)
	for i := len(dst) - 1; i >= 0; i-- {
		switch dst[i] {
		case ' ', '\t', '\r', '\n':
			continue
		case '{':
			return dst
		}
		return append(dst, ',')
	}
	return dst
}

// appendName appends the name of a field as JSON. Names in a configuration are letters, digits and underscores; others are quoted.
func appendName(dst []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		if c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return appendQuoted(dst, name)
		}
	}
	return append(append(append(dst, '"'), name...), '"')
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }

func appendQuoted(dst []byte, name string) []byte {
	return json.AppendString(dst, []byte(name))
}
