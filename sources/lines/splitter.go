// Package lines splits a stream of bytes into records, one a line, without
// copying them: records point into the batch's own memory, and only the
// unfinished line at the end of a block is carried over to the next one.
//
// A line ends at a line feed; a carriage return before it is not part of the
// line. Empty lines are skipped. A byte order mark at the very start is too.
package lines

import (
	"bytes"
	"io"

	"keystone/pipeline/record"
)

const (
	blockLeast  = 4 << 10 // however little the batch wants
	blockMin    = 64 << 10
	blockMax    = 256 << 10 // the blocks on their way, with their records, stay in the second-level cache
	recordsMax  = 32 << 10  // of one batch
	sampleMax   = 1 << 10   // what is kept of a line that is too long
	skipBlocks  = 64        // blocks of a line that is too long before Fill returns for breath
	keepBufMax  = 4 << 20   // memory beyond this is not kept in a batch for ever
	byteOrderMk = "\xef\xbb\xbf"
)

// End says what the end of the input means for a last line without line feed.
type End bool

// The meanings of the end of input.
const (
	MoreMayCome End = false // the line may still grow: it waits
	Final       End = true  // the line is a record
)

// Splitter holds what lies between two batches of one stream. Its zero value
// is not usable; see New. One goroutine uses it at a time.
type Splitter struct {
	max      int
	block    int
	offset   int64  // of the first byte of tail: after the last line given out
	tail     []byte // read but not given out, from head on
	head     int
	leftover bool // tail may hold whole lines: the last batch had as many as it wanted

	skipping bool  // inside a line that is too long; tail is empty
	skipped  int64 // bytes of it so far
	sample   []byte
}

// New makes a splitter for a stream that begins at offset. Lines longer than
// max bytes become records marked record.TooLarge, which keep the line's first
// bytes; such a line is never held in memory as a whole.
func New(max int64, offset int64) *Splitter {
	return &Splitter{max: int(max), block: blockMin, offset: offset}
}

// Offset gives where the first line begins that was not given out: where to
// go on after the last batch.
func (s *Splitter) Offset() int64 { return s.offset }

// ReadTo gives the offset after the last byte taken from the reader.
func (s *Splitter) ReadTo() int64 { return s.offset + int64(len(s.tail)-s.head) + s.skipped }

// Fill reads from r until b, which is empty, has at least one line. It
// returns io.EOF with no records at the end of r, and nil with none after a
// long stretch of one line that is too long: call again. It respects b.Want. On any other error
// nothing read is lost. It sets Records, Buf and Bytes of b.
func (s *Splitter) Fill(b *record.Batch, r io.Reader, end End) error {
	limit := recordsMax
	if b.Want.Records > 0 {
		limit = min(limit, b.Want.Records)
	}
	for s.leftover {
		if s.again(b, limit) {
			return nil
		}
	}
	block := s.block
	if b.Want.Bytes > 0 {
		block = min(block, max(b.Want.Bytes, blockLeast))
	}
	buf := s.begin(b, block)
	searched := len(buf)
	for blocks := 0; ; blocks++ {
		buf = reserve(buf, block)
		n, err := r.Read(buf[len(buf) : len(buf)+block])
		buf = buf[:len(buf)+n]
		if s.skipping {
			buf = s.skip(b, buf)
			searched = 0
		}
		rest := 0
		if !s.skipping && searched < len(buf) {
			rest = s.split(b, buf, searched, limit)
			searched = len(buf) - rest
		}
		if len(b.Records) > 0 {
			s.adapt(len(b.Records), n == s.block)
			s.leftover = len(b.Records) >= limit
			s.finish(b, buf, rest)
			return nil
		}
		if rest > 0 {
			buf = buf[:copy(buf, buf[rest:])]
		}
		if len(buf) > s.max+len(byteOrderMk)+len("\r") {
			s.skipping, s.skipped = true, int64(len(buf))
			s.sample = append(s.sample[:0], buf[:min(len(buf), sampleMax, s.max)]...)
			buf, searched = buf[:0], 0
		}
		if err == io.EOF && end == Final {
			given := s.last(b, buf)
			s.finish(b, buf, len(buf))
			if given {
				return nil
			}
			return io.EOF
		}
		if err != nil || s.skipping && blocks >= skipBlocks {
			s.finish(b, buf, 0)
			return err
		}
	}
}

// begin gives the batch's memory, beginning with what is left of the last block.
func (s *Splitter) begin(b *record.Batch, block int) []byte {
	if cap(b.Buf) > keepBufMax && len(s.tail) < blockMax {
		b.Buf = nil
	}
	buf := reserve(b.Buf[:0], len(s.tail)+block)
	return append(buf, s.tail...)
}

// again gives lines of the last block that were more than wanted then, and
// tells whether there were records among them.
func (s *Splitter) again(b *record.Batch, limit int) bool {
	rest := s.tail[s.head:]
	end := 0
	for n := 0; n < limit; n++ {
		i := bytes.IndexByte(rest[end:], '\n')
		if i < 0 {
			break
		}
		end += i + 1
	}
	if end == 0 {
		s.tail, s.head, s.leftover = s.tail[:copy(s.tail, rest)], 0, false
		return false
	}
	b.Buf = append(b.Buf[:0], rest[:end]...)
	s.split(b, b.Buf, 0, limit)
	s.head += end
	return len(b.Records) > 0
}

// reserve gives buf with room for n more bytes.
func reserve(buf []byte, n int) []byte {
	if cap(buf)-len(buf) >= n {
		return buf
	}
	size := max(cap(buf)*2, len(buf)+n)
	grown := make([]byte, len(buf), size)
	copy(grown, buf)
	return grown
}

// split appends a record for each whole line of buf and gives where the rest
// begins. The first searched bytes hold no line feed. It moves s.offset to
// the rest.
func (s *Splitter) split(b *record.Batch, buf []byte, searched, limit int) int {
	pos, total, records := 0, 0, b.Records
	from := searched
	for len(records) < limit {
		i := bytes.IndexByte(buf[from:], '\n')
		if i < 0 {
			break
		}
		end := from + i
		line := trim(buf[pos:end:end], s.offset+int64(pos))
		switch {
		case len(line) > s.max:
			sample := line[:min(sampleMax, s.max)]
			records = append(records, bad(s.offset+int64(pos), sample))
			total += len(sample)
		case len(line) > 0:
			records = append(records, record.Record{Offset: s.offset + int64(pos), Value: line})
			total += len(line)
		}
		pos = end + 1
		from = pos
	}
	b.Records = records
	b.Bytes += total
	s.offset += int64(pos)
	return pos
}

// skip drops what belongs to a line that is too long, and gives what comes after it.
func (s *Splitter) skip(b *record.Batch, buf []byte) []byte {
	i := bytes.IndexByte(buf, '\n')
	if i < 0 {
		s.skipped += int64(len(buf))
		return buf[:0]
	}
	s.giveSkipped(b, s.skipped+int64(i), 1)
	return buf[:copy(buf, buf[i+1:])]
}

// giveSkipped appends the record that stands for the line that was too long.
func (s *Splitter) giveSkipped(b *record.Batch, length, feed int64) {
	r := bad(s.offset, bytes.Clone(s.sample))
	b.Records = append(b.Records, r)
	b.Bytes += len(r.Value)
	s.offset += length + feed
	s.skipping, s.skipped = false, 0
}

// last makes a record of a line that ends with the input.
func (s *Splitter) last(b *record.Batch, buf []byte) bool {
	if s.skipping {
		s.giveSkipped(b, s.skipped, 0)
		return true
	}
	at := s.offset
	s.offset += int64(len(buf))
	line := trim(buf[:len(buf):len(buf)], at)
	if len(line) == 0 {
		return false
	}
	r := record.Record{Offset: at, Value: line}
	if len(line) > s.max {
		r = bad(at, line[:min(sampleMax, s.max)])
	}
	b.Records = append(b.Records, r)
	b.Bytes += len(r.Value)
	return true
}

// finish carries over what was not given out; rest is where it begins in buf.
func (s *Splitter) finish(b *record.Batch, buf []byte, rest int) {
	s.tail = append(s.tail[:0], buf[rest:]...)
	if cap(s.tail) > keepBufMax && len(s.tail) < blockMax {
		s.tail = bytes.Clone(s.tail)
	}
	s.head = 0
	b.Buf = buf
}

// adapt keeps blocks large and batches of short lines small.
func (s *Splitter) adapt(records int, full bool) {
	switch {
	case records > recordsMax/2:
		s.block = max(s.block/2, blockMin)
	case full && records < recordsMax/4:
		s.block = min(s.block*2, blockMax)
	}
}

// bad gives the record that stands for a line that is too long.
func bad(offset int64, sample []byte) record.Record {
	return record.Record{Offset: offset, Value: sample, Bad: record.TooLarge}
}

// trim removes a carriage return at the end, and a byte order mark at offset 0.
func trim(line []byte, offset int64) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[: n-1 : n-1]
	}
	if offset == 0 {
		line = bytes.TrimPrefix(line, []byte(byteOrderMk))
	}
	return line
}
