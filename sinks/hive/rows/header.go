package rows

import (
	"encoding/binary"
	"hash/crc32"
)

// What a page's header says, as numbers of the Parquet format.
const (
	dataPage       = 0
	dictionaryPage = 2

	encodingPlain      = 0
	encodingRLE        = 3
	encodingDictionary = 8
)

// Thrift's compact form of what a header has; Arrow keeps its own generated one to itself.
const (
	thriftI32    = 5
	thriftStruct = 12
)

// appendI32 appends a number that is the field after the one before it.
func appendI32(dst []byte, v int32) []byte {
	dst = append(dst, 1<<4|thriftI32)
	return binary.AppendUvarint(dst, uint64(uint32(v<<1^v>>31)))
}

// appendPageHeader appends what headers of all pages begin with, up to the struct of the page's kind.
func appendPageHeader(dst, body []byte, kind int32, uncompressed int, field int32) []byte {
	dst = appendI32(dst, kind)
	dst = appendI32(dst, int32(uncompressed))
	dst = appendI32(dst, int32(len(body)))
	dst = appendI32(dst, int32(crc32.ChecksumIEEE(body)))
	return append(dst, byte(field-4)<<4|thriftStruct)
}

func appendDataHeader(dst, body []byte, levels int, encoding int32, uncompressed int) []byte {
	dst = appendPageHeader(dst, body, dataPage, uncompressed, 5)
	dst = appendI32(dst, int32(levels))
	dst = appendI32(dst, encoding)
	dst = appendI32(dst, encodingRLE)
	dst = appendI32(dst, encodingRLE)
	return append(dst, 0, 0)
}

func appendDictionaryHeader(dst, body []byte, entries, uncompressed int) []byte {
	dst = appendPageHeader(dst, body, dictionaryPage, uncompressed, 7)
	dst = appendI32(dst, int32(entries))
	dst = appendI32(dst, encodingPlain)
	return append(dst, 0, 0)
}
