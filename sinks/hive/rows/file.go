package rows

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/metadata"
)

const magic = "PAR1"

// createdBy is who engines take for the writer, when they know mistakes of writers.
const createdBy = "keystone version 1.0.0"

// file is the output and what its footer will say.
type file struct {
	w      io.Writer
	at     int64
	schema *Schema
	codec  Compression
	meta   *metadata.FileMetaDataBuilder // nil until something is written
	groups int
}

func newFile(w io.Writer, s *Schema, c Compression) *file { return &file{w: w, schema: s, codec: c} }

func (f *file) write(b []byte) error {
	n, err := f.w.Write(b)
	f.at += int64(n)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// begin writes what a file begins with.
func (f *file) begin() error {
	if f.meta != nil {
		return nil
	}
	codec := map[Compression]compress.Compression{Zstd: compress.Codecs.Zstd, Snappy: compress.Codecs.Snappy, None: compress.Codecs.Uncompressed}[f.codec]
	props := parquet.NewWriterProperties(parquet.WithCompression(codec), parquet.WithCreatedBy(createdBy), parquet.WithVersion(parquet.V2_LATEST))
	f.meta = metadata.NewFileMetadataBuilder(f.schema.file, props, nil)
	return f.write([]byte(magic))
}

// rowGroup writes the columns' pages.
func (f *file) rowGroup(columns []column, rows int, e *encoder) error {
	if err := f.begin(); err != nil {
		return err
	}
	group := f.meta.AppendRowGroup()
	total := int64(0)
	for i := range columns {
		n, err := f.chunk(group.NextColumnChunk(), &columns[i], e)
		if err != nil {
			return err
		}
		total += n
	}
	group.SetNumRows(rows)
	if err := group.Finish(total, int16(f.groups)); err != nil {
		return err
	}
	f.groups++
	return nil
}

// chunk writes a column's pages and gives their size before compression.
func (f *file) chunk(meta *metadata.ColumnChunkMetaDataBuilder, c *column, e *encoder) (int64, error) {
	begin := f.at
	info := metadata.ChunkMetaInfo{NumValues: int64(c.total), IndexPageOffset: -1}
	stats := metadata.EncodingStats{DictEncodingStats: map[parquet.Encoding]int32{}, DataEncodingStats: map[parquet.Encoding]int32{}}
	if c.dict != nil {
		c.bounds.plain(c.n, c.dict.entries)
		body := e.compress(f.codec, c.dict.entries)
		e.header = appendDictionaryHeader(e.header[:0], body, c.dict.len(), len(c.dict.entries))
		info.DictPageOffset = begin
		if err := f.write(e.header); err != nil {
			return 0, err
		}
		if err := f.write(body); err != nil {
			return 0, err
		}
		c.uncompressed += len(e.header) + len(c.dict.entries)
		stats.DictEncodingStats[parquet.Encodings.Plain] = 1
		stats.DataEncodingStats[parquet.Encodings.RLEDict] = int32(c.dictPages)
	}
	if c.plainPages > 0 {
		stats.DataEncodingStats[parquet.Encodings.Plain] = int32(c.plainPages)
	}
	info.DataPageOffset = f.at
	for _, p := range c.pages {
		if err := f.write(p); err != nil {
			return 0, err
		}
	}
	info.CompressedSize, info.UncompressedSize = f.at-begin, int64(c.uncompressed)
	meta.SetStats(c.bounds.encoded(c.n, int64(c.nulls)))
	return info.UncompressedSize, meta.Finish(info, c.dict != nil, c.dict != nil && c.plainPages > 0, stats, nil)
}

// close writes the footer.
func (f *file) close(entries []KeyValue) error {
	if err := f.begin(); err != nil {
		return err
	}
	// Hive takes days before 1582 for those of the Julian calendar without this word.
	entries = append([]KeyValue{{"writer.date.proleptic", "true"}}, entries...)
	for _, kv := range entries {
		if err := f.meta.AppendKeyValueMetadata(kv.Key, kv.Value); err != nil {
			return err
		}
	}
	footer, err := f.meta.Finish()
	if err != nil {
		return err
	}
	begin := f.at
	if _, err := footer.WriteTo(fileWriter{f}, nil); err != nil {
		return err
	}
	if f.at-begin > math.MaxInt32 {
		return io.ErrShortBuffer
	}
	return f.write(append(binary.LittleEndian.AppendUint32(nil, uint32(f.at-begin)), magic...))
}

// fileWriter lets Arrow write to a file.
type fileWriter struct{ f *file }

func (w fileWriter) Write(b []byte) (int, error) {
	if err := w.f.write(b); err != nil {
		return 0, err
	}
	return len(b), nil
}
