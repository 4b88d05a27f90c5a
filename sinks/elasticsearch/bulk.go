package elasticsearch

import (
	"io"
	"net/url"
	"strconv"

	"github.com/klauspost/compress/gzip"

	"bytes"
)

// bulk is the items of one request: pieces of deliveries.
type bulk struct {
	segs  []segment
	bytes int
	count int
}

// segment is consecutive items of a delivery.
type segment struct {
	d        *delivery
	from, to int
}

func (g segment) text() []byte { return g.d.buf[g.d.start(g.from):g.d.ends[g.to-1]] }

func (b *bulk) add(d *delivery, item, size int) {
	b.bytes += size
	b.count++
	if n := len(b.segs); n > 0 && b.segs[n-1].d == d && b.segs[n-1].to == item {
		b.segs[n-1].to++
		return
	}
	b.segs = append(b.segs, segment{d, item, item + 1})
}

// halves splits a bulk of at least two items.
func (b *bulk) halves() (first, second *bulk) {
	first, second = &bulk{}, &bulk{}
	for _, g := range b.segs {
		for k := g.from; k < g.to; k++ {
			to := first
			if first.count >= b.count/2 {
				to = second
			}
			to.add(g.d, k, g.d.size(k))
		}
	}
	return first, second
}

// each calls f with each item, in order.
func (b *bulk) each(f func(i int, d *delivery, item int)) {
	i := 0
	for _, g := range b.segs {
		for k := g.from; k < g.to; k++ {
			f(i, g.d, k)
			i++
		}
	}
}

// reader gives the text of all items.
func (b *bulk) reader() io.Reader { return &reader{segs: b.segs} }

type reader struct {
	segs []segment
	rest []byte
}

// Read gives the next bytes.
func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if len(r.segs) == 0 {
			return 0, io.EOF
		}
		r.rest, r.segs = r.segs[0].text(), r.segs[1:]
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// pack compresses the bulk.
func (b *bulk) pack(into *bytes.Buffer) {
	z, err := gzip.NewWriterLevel(into, gzip.BestSpeed)
	if err == nil {
		for _, g := range b.segs {
			if _, err = z.Write(g.text()); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		panic("elasticsearch: packing into memory failed: " + err.Error())
	}
}

// query is what the requests ask of the cluster: an answer with nothing in it that is not looked at, in
// good time. Where a shard has no primary, the cluster waits for one, and then refuses its items; that
// is better than an end of the request of which nobody knows what it means.
func (s *Sink) query() string {
	q := "filter_path=error,errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by"
	if s.cfg.Action == Create {
		q += ",items.*._index"
	}
	if s.cfg.Pipeline != "" {
		q += "&pipeline=" + url.QueryEscape(s.cfg.Pipeline)
	}
	return q + "&timeout=" + strconv.FormatInt(max(s.cfg.RequestTimeout.Milliseconds()/2, 1), 10) + "ms"
}
