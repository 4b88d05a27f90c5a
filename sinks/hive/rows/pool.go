package rows

import (
	"math/bits"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Compression is the codec of a file's pages.
type Compression string

// The codecs.
const (
	Zstd   Compression = "zstd"
	Snappy Compression = "snappy"
	None   Compression = "none"
)

const (
	smallest    = 7  // 128 bytes: the first buffer of a column
	largest     = 20 // 1 MiB: larger ones are left to the garbage collector
	keptDefault = 64 << 20
)

// Pool is what all writers of a process share: buffers of pages that are being filled,
// and compressors. It may be used by several goroutines.
type Pool struct {
	mu       sync.Mutex // guards free, kept, idle
	free     [largest + 1][][]byte
	kept     int // bytes in free
	keptMax  int
	encoders []*encoder
}

// NewPool makes a pool that keeps up to 64 MiB of buffers that nobody uses.
func NewPool() *Pool { return NewPoolOf(keptDefault) }

// NewPoolOf makes a pool that keeps up to so many bytes of buffers that nobody uses.
func NewPoolOf(keep int) *Pool { return &Pool{keptMax: keep} }

// Kept is how many bytes of buffers it keeps that nobody uses, for a bound over all open files.
func (p *Pool) Kept() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept
}

// class gives the class of buffers that hold n bytes.
func class(n int) int { return max(bits.Len(uint(max(n, 1)-1)), smallest) }

// grow gives a buffer with the contents of b and room for n bytes more; b goes back to the pool.
func (p *Pool) grow(b []byte, n int) []byte {
	c := class(len(b) + n)
	var next []byte
	if c <= largest {
		p.mu.Lock()
		if last := len(p.free[c]) - 1; last >= 0 {
			next = p.free[c][last]
			p.free[c] = p.free[c][:last]
			p.kept -= cap(next)
		}
		p.mu.Unlock()
	}
	if next == nil {
		next = make([]byte, 0, 1<<c)
	}
	next = append(next, b...)
	p.put(b)
	return next
}

// put takes a buffer back, whose contents nobody needs.
func (p *Pool) put(b []byte) {
	c := class(cap(b))
	if cap(b) != 1<<c || c > largest {
		return
	}
	p.mu.Lock()
	if p.kept+cap(b) <= p.keptMax {
		p.free[c] = append(p.free[c], b[:0])
		p.kept += cap(b)
	}
	p.mu.Unlock()
}

// encoder is what the encoding of a page needs beside the page.
type encoder struct {
	zstd       *zstd.Encoder
	page       []byte // levels and values, before they are compressed
	compressed []byte
	ids        []uint32
	header     []byte
}

// zstdWindow bounds what a compressor looks back, and thereby its memory; pages are not larger.
const zstdWindow = 1 << 20

func (p *Pool) encoder() *encoder {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.encoders) - 1; n >= 0 {
		e := p.encoders[n]
		p.encoders = p.encoders[:n]
		return e
	}
	return &encoder{}
}

const (
	encodersMax = 16
	scratchMax  = 8 << 20 // a rare huge value does not stay in memory
)

func (p *Pool) release(e *encoder) {
	if cap(e.page)+cap(e.compressed) > scratchMax {
		e.page, e.compressed = nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.encoders) < encodersMax {
		p.encoders = append(p.encoders, e)
	}
}

// compress gives the page compressed, valid until the next call.
func (e *encoder) compress(c Compression, page []byte) []byte {
	switch c {
	case Zstd:
		if e.zstd == nil {
			e.zstd, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true), zstd.WithWindowSize(zstdWindow), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		}
		e.compressed = e.zstd.EncodeAll(page, e.compressed[:0])
	case Snappy:
		if n := s2.MaxEncodedLen(len(page)); cap(e.compressed) < n {
			e.compressed = make([]byte, n)
		}
		e.compressed = s2.EncodeSnappy(e.compressed[:cap(e.compressed)], page)
	default:
		return page
	}
	return e.compressed
}
