package eval

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"net/url"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"keystone/dsl/ir"
	"keystone/pipeline/json"
)

func textFunction(name string) impl {
	switch name {
	case "len":
		return length
	case "upper":
		return ofText(func(m *machine, _ *site, s []byte, _ []value) value {
			return mapped(m, s, asciiUpper, unicode.ToUpper)
		})
	case "lower":
		return ofText(func(m *machine, _ *site, s []byte, _ []value) value {
			return mapped(m, s, asciiLower, unicode.ToLower)
		})
	case "trim":
		return ofText(func(m *machine, st *site, s []byte, a []value) value {
			if len(a) == 1 {
				return stringValue(bytes.TrimSpace(s))
			}
			return withText(a[1], m, st, func(cut []byte) value { return stringValue(trim(s, cut)) })
		})
	case "trimPrefix":
		return ofTexts(func(_ *machine, _ *site, s, p []byte) value { return stringValue(bytes.TrimPrefix(s, p)) })
	case "trimSuffix":
		return ofTexts(func(_ *machine, _ *site, s, p []byte) value { return stringValue(bytes.TrimSuffix(s, p)) })
	case "split":
		return ofText(split)
	case "replace":
		return ofText(replace)
	case "repeat":
		return ofText(repeat)
	case "indexOf":
		return ofTexts(func(_ *machine, _ *site, s, p []byte) value { return runeIndex(s, bytes.Index(s, p)) })
	case "lastIndexOf":
		return ofTexts(func(_ *machine, _ *site, s, p []byte) value { return runeIndex(s, bytes.LastIndex(s, p)) })
	case "mask":
		return ofText(mask)
	case "toBase64":
		return func(m *machine, st *site, a []value) value {
			s, ok := m.octets(a[0], st)
			if !ok {
				return value{k: kErr}
			}
			at := len(m.buf)
			m.buf = base64.StdEncoding.AppendEncode(m.buf, s)
			return stringValue(m.keep(at))
		}
	case "fromBase64":
		return ofText(func(m *machine, st *site, s []byte, _ []value) value {
			at := len(m.buf)
			var err error
			m.buf, err = base64.StdEncoding.Strict().AppendDecode(m.buf, s)
			if err != nil || !utf8.Valid(m.buf[at:]) {
				return m.fail(st, ir.CodeConversion, "The text is not base64 of UTF-8 text.")
			}
			return stringValue(m.keep(at))
		})
	case "ip_prefix":
		return ofText(ipPrefix)
	case "url_host":
		return ofText(urlHost)
	}
	return nil
}

// ofText is a function whose first argument is a string.
func ofText(f func(m *machine, st *site, s []byte, a []value) value) impl {
	return func(m *machine, st *site, a []value) value {
		if a[0].k != kString {
			return m.wrongType(st, a[0], "a string")
		}
		return f(m, st, m.text(a[0]), a)
	}
}

// ofTexts is a function of two strings.
func ofTexts(f func(m *machine, st *site, s, p []byte) value) impl {
	return func(m *machine, st *site, a []value) value {
		for _, v := range a[:2] {
			if v.k != kString {
				return m.wrongType(st, v, "a string")
			}
		}
		return f(m, st, m.text(a[0]), m.text(a[1]))
	}
}

func withText(v value, m *machine, st *site, f func([]byte) value) value {
	if v.k != kString {
		return m.wrongType(st, v, "a string")
	}
	return f(m.text(v))
}

// octets gives the bytes of a string or of bytes.
func (m *machine) octets(v value, st *site) ([]byte, bool) {
	switch v.k {
	case kString:
		return m.text(v), true
	case kBytes:
		return v.s, true
	}
	m.wrongType(st, v, "a string or bytes")
	return nil, false
}

func length(m *machine, st *site, a []value) value {
	switch v := a[0]; v.k {
	case kString:
		return intValue(int64(utf8.RuneCount(m.text(v))))
	case kBytes:
		return intValue(int64(len(v.s)))
	case kList:
		if v.s == nil {
			return intValue(int64(len(v.l)))
		}
		n := int64(0)
		for it := json.Over(v.s); it.Next(); {
			n++
		}
		return intValue(n)
	case kObject:
		return intValue(int64(len(m.members(v)) / 2))
	}
	return m.wrongType(st, a[0], "a string, bytes, a list or an object")
}

func asciiUpper(c byte) byte {
	if c-'a' < 26 {
		c -= 'a' - 'A'
	}
	return c
}

func asciiLower(c byte) byte {
	if c-'A' < 26 {
		c += 'a' - 'A'
	}
	return c
}

// mapped replaces every letter, ASCII ones by a function of their own.
func mapped(m *machine, s []byte, ascii func(byte) byte, other func(rune) rune) value {
	at := len(m.buf)
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			m.buf = append(m.buf, ascii(s[i]))
			i++
			continue
		}
		r, n := utf8.DecodeRune(s[i:])
		m.buf = utf8.AppendRune(m.buf, other(r))
		i += n
	}
	return stringValue(m.keep(at))
}

// trim cuts code points that are in cut from both ends.
func trim(s, cut []byte) []byte {
	for len(s) > 0 {
		_, n := utf8.DecodeRune(s)
		if !hasRune(cut, s[:n]) {
			break
		}
		s = s[n:]
	}
	for len(s) > 0 {
		_, n := utf8.DecodeLastRune(s)
		if !hasRune(cut, s[len(s)-n:]) {
			break
		}
		s = s[:len(s)-n]
	}
	return s
}

// hasRune tells whether a code point is among those of set; since both are
// UTF-8, finding its bytes is finding it.
func hasRune(set, r []byte) bool { return bytes.Contains(set, r) }

func split(m *machine, st *site, s []byte, a []value) value {
	if a[1].k != kString {
		return m.wrongType(st, a[1], "a string")
	}
	sep, most := m.text(a[1]), int64(len(s)+1)
	if len(a) > 2 {
		switch {
		case a[2].k != kInt:
			return m.wrongType(st, a[2], "an int")
		case a[2].n < 1:
			return m.fail(st, ir.CodeRange, "The number of pieces must be at least 1.")
		}
		most = min(most, a[2].n)
	}
	n := int64(bytes.Count(s, sep))
	if len(sep) > 0 {
		n++
	} else {
		n--
	}
	n = max(min(n, most), 0)
	out := m.room(int(n))
	for int64(len(out))+1 < n {
		i, skip := bytes.Index(s, sep), len(sep)
		if skip == 0 {
			_, i = utf8.DecodeRune(s)
		}
		out = append(out, stringValue(s[:i:i]))
		s = s[i+skip:]
	}
	if n > 0 {
		out = append(out, stringValue(s))
	}
	return listValue(out)
}

func replace(m *machine, st *site, s []byte, a []value) value {
	for _, v := range a[1:3] {
		if v.k != kString {
			return m.wrongType(st, v, "a string")
		}
	}
	from, to := m.text(a[1]), m.text(a[2])
	if len(from) == 0 {
		return m.fail(st, ir.CodeRange, "What is to be replaced must not be empty.")
	}
	if n := bytes.Count(s, from); len(s)+n*(len(to)-len(from)) > ir.MaxText {
		return m.tooLong(st)
	}
	at := len(m.buf)
	for {
		i := bytes.Index(s, from)
		if i < 0 {
			break
		}
		m.buf = append(append(m.buf, s[:i]...), to...)
		s = s[i+len(from):]
	}
	m.buf = append(m.buf, s...)
	return stringValue(m.keep(at))
}

func repeat(m *machine, st *site, s []byte, a []value) value {
	n := a[1].n
	switch {
	case a[1].k != kInt:
		return m.wrongType(st, a[1], "an int")
	case n < 0:
		return m.fail(st, ir.CodeRange, "The number of repetitions must not be negative.")
	case len(s) > 0 && n > int64(ir.MaxText/len(s)):
		return m.tooLong(st)
	}
	at := len(m.buf)
	if len(s) > 0 {
		for range n {
			m.buf = append(m.buf, s...)
		}
	}
	return stringValue(m.keep(at))
}

func runeIndex(s []byte, i int) value {
	if i < 0 {
		return intValue(-1)
	}
	return intValue(int64(utf8.RuneCount(s[:i])))
}

func mask(m *machine, st *site, s []byte, a []value) value {
	keep := int64(0)
	if len(a) > 1 {
		switch {
		case a[1].k != kInt:
			return m.wrongType(st, a[1], "an int")
		case a[1].n < 0:
			return m.fail(st, ir.CodeRange, "The number of code points to keep must not be negative.")
		}
		keep = a[1].n
	}
	hidden := max(int64(utf8.RuneCount(s))-keep, 0)
	at := len(m.buf)
	for range hidden {
		m.buf = append(m.buf, '*')
	}
	m.buf = append(m.buf, runes(s, int(hidden), utf8.RuneCount(s))...)
	return stringValue(m.keep(at))
}

func ipPrefix(m *machine, st *site, s []byte, a []value) value {
	for _, v := range a[1:] {
		if v.k != kInt {
			return m.wrongType(st, v, "an int")
		}
	}
	bits, bits6 := a[1], intValue(64)
	if len(a) > 2 {
		bits6 = a[2]
	}
	ip, err := netip.ParseAddr(borrow(s))
	if err != nil || ip.Zone() != "" {
		return m.fail(st, ir.CodeConversion, "The text is not an IP address.")
	}
	if bits.n < 0 || bits.n > 32 || bits6.n < 0 || bits6.n > 128 {
		return m.fail(st, ir.CodeRange, "A prefix has 0 to 32 bits for IPv4, 0 to 128 for IPv6.")
	}
	ip = ip.Unmap()
	n := bits6.n
	if ip.Is4() {
		n = bits.n
	}
	p, err := ip.Prefix(int(n))
	if err != nil {
		return m.fail(st, ir.CodeRange, "A prefix has 0 to 32 bits for IPv4, 0 to 128 for IPv6.")
	}
	at := len(m.buf)
	m.buf = p.AppendTo(m.buf)
	return stringValue(m.keep(at))
}

func urlHost(m *machine, st *site, s []byte, _ []value) value {
	if host := plainHost(s); host != nil {
		return mapped(m, host, asciiLower, unicode.ToLower)
	}
	u, err := url.Parse(string(s))
	if err != nil {
		return m.fail(st, ir.CodeConversion, "The text is not a URL.")
	}
	host := u.Hostname()
	if host == "" {
		return value{}
	}
	return mapped(m, []byte(host), asciiLower, unicode.ToLower)
}

// plainHost gives the host of the usual form, scheme://host[:port][/rest] in
// ASCII without escapes, or nil where package url must look.
func plainHost(s []byte) []byte {
	i := bytes.Index(s, []byte("://"))
	if i < 1 || s[0]|0x20-'a' >= 26 {
		return nil
	}
	for _, c := range s[:i] {
		if c|0x20-'a' >= 26 {
			return nil
		}
	}
	for _, c := range s {
		if c <= ' ' || c >= 0x7f || c == '%' {
			return nil
		}
	}
	rest := s[i+3:]
	end := 0
	for end < len(rest) && (rest[end]|0x20-'a' < 26 || rest[end]-'0' < 10 || rest[end] == '.' || rest[end] == '-') {
		end++
	}
	host, rest := rest[:end], rest[end:]
	if len(rest) > 0 && rest[0] == ':' {
		for rest = rest[1:]; len(rest) > 0 && rest[0]-'0' < 10; rest = rest[1:] {
		}
	}
	if len(host) == 0 || len(rest) > 0 && rest[0] != '/' && rest[0] != '?' && rest[0] != '#' {
		return nil
	}
	return host
}

// borrow gives bytes as a string that must not outlive the call it is given to.
func borrow(s []byte) string { return unsafe.String(unsafe.SliceData(s), len(s)) }

func appendHex(dst, sum []byte) []byte { return hex.AppendEncode(dst, sum) }
