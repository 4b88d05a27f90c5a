package rows

import "encoding/binary"

// appendRuns appends values of a bit width in Parquet's hybrid of runs and packed groups of eight.
func appendRuns[T uint8 | uint32](dst []byte, values []T, width int) []byte {
	packed := 0 // where the values begin that are not yet written, a multiple of eight before i
	for i := 0; i < len(values); {
		run := 1
		for v := values[i]; i+run < len(values) && values[i+run] == v; {
			run++
		}
		if run < 8 {
			i += min(8, len(values)-i)
			continue
		}
		// A run begins at a group's begin, so that what is before it are whole groups.
		dst = appendPacked(dst, values[packed:i], width)
		dst = appendRun(dst, run, uint32(values[i]), width)
		i += run
		packed = i
	}
	return appendPacked(dst, values[packed:], width)
}

// appendRun appends n times one value.
func appendRun(dst []byte, n int, v uint32, width int) []byte {
	dst = binary.AppendUvarint(dst, uint64(n)<<1)
	for ; width > 0; width -= 8 {
		dst = append(dst, byte(v))
		v >>= 8
	}
	return dst
}

// appendPacked appends values as they are, zeros behind the last up to a multiple of eight.
func appendPacked[T uint8 | uint32](dst []byte, values []T, width int) []byte {
	if len(values) == 0 {
		return dst
	}
	groups := (len(values) + 7) / 8
	dst = binary.AppendUvarint(dst, uint64(groups)<<1|1)
	end := len(dst) + groups*width
	var acc uint64
	n := 0
	for _, v := range values {
		acc |= uint64(v) << n
		if n += width; n >= 32 {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(acc))
			acc >>= 32
			n -= 32
		}
	}
	for ; n > 0; n -= 8 {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	for len(dst) < end {
		dst = append(dst, 0)
	}
	return dst
}
