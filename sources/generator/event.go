package generator

import (
	"encoding/binary"
	"strconv"
)

// maker makes the events of one partition.
type maker struct {
	seed    uint64
	filler  []byte // text that payloads are cut from
	country [256]string
}

const fillerSize = 1 << 16

func newMaker(seed int64, partition int32) *maker {
	m := &maker{seed: mix(uint64(seed)*0x9e3779b97f4a7c15 + uint64(partition)), filler: make([]byte, fillerSize+256)}
	r := rng(mix(uint64(seed)))
	for i := range m.filler {
		m.filler[i] = alphabet[r.next()&63]
	}
	i := 0
	for _, c := range countries {
		for range c.share {
			m.country[i] = c.name
			i++
		}
	}
	return m
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// countries have shares of 256.
var countries = [...]struct {
	name  string
	share int
}{{"US", 72}, {"BR", 50}, {"IN", 30}, {"MX", 20}, {"DE", 18}, {"JP", 16}, {"GB", 14}, {"FR", 12}, {"KR", 10}, {"ES", 8}, {"AR", 4}, {"PT", 2}}

// devices have 16 equal shares; tv has 7.
var devices = [...]string{
	`{"type":"tv","os":"tizen","version":"7.0"}`, `{"type":"tv","os":"tizen","version":"6.5"}`,
	`{"type":"tv","os":"webos","version":"6.3"}`, `{"type":"tv","os":"webos","version":"23.1"}`,
	`{"type":"tv","os":"androidtv","version":"12"}`, `{"type":"tv","os":"roku","version":"12.5"}`,
	`{"type":"tv","os":"tvos","version":"17.4"}`,
	`{"type":"mobile","os":"android","version":"14"}`, `{"type":"mobile","os":"android","version":"13"}`,
	`{"type":"mobile","os":"ios","version":"17.4.1"}`, `{"type":"mobile","os":"ios","version":"16.7"}`,
	`{"type":"tablet","os":"ipados","version":"17.2"}`, `{"type":"tablet","os":"android","version":"13"}`,
	`{"type":"web","os":"windows","version":"11"}`, `{"type":"web","os":"macos","version":"14.3"}`,
	`{"type":"console","os":"playstation","version":"5"}`,
}

// actions have 32 equal shares, most of them the heartbeat of a player. The first is at the start.
var actions = [32]string{
	"start", "start", "stop", "stop", "pause", "pause", "resume", "resume", "seek", "seek", "buffer",
	"heartbeat", "heartbeat", "heartbeat", "heartbeat", "heartbeat", "heartbeat", "heartbeat",
	"heartbeat", "heartbeat", "heartbeat", "heartbeat", "heartbeat", "heartbeat", "heartbeat",
	"heartbeat", "heartbeat", "heartbeat", "heartbeat", "heartbeat", "heartbeat", "heartbeat",
}

var tags = [...]string{
	`["hd"]`, `["hd","kids"]`, `["uhd","hdr","new"]`, `["hd","subtitles"]`,
	`[]`, `["uhd","dolby"]`, `["hd","promo","weekend"]`, `["sd","download"]`,
}

// event appends event n, at ts in milliseconds, and gives where in dst its user_id is.
func (m *maker) event(dst []byte, n, ts int64) (out []byte, user, userEnd int) {
	r := rng(m.seed + uint64(n)*0xd1342543de82ef95)
	a, b, c, d := r.next(), r.next(), r.next(), r.next()

	u := skewed(a, 8, 13) // 256 to 2 million users
	own := mix(u + 0x5bf03635)
	device := &devices[own>>8&15]
	session := own ^ uint64(n)>>12 // a user's events near each other are of one session
	if a>>60 < 4 {                 // the user's other device
		device = &devices[own>>12&15]
		session ^= 1 << 40
	}
	title := skewed(b, 4, 10)
	duration := int64(20*60_000) + int64(mix(title)%100)*60_000
	action := actions[c&31]
	position := int64(c >> 8 % uint64(duration))
	if action == "start" {
		position = int64(c >> 8 % 900)
	}

	dst = append(dst, `{"event_id":"`...)
	dst = appendUUID(dst, b^d<<1, d)
	dst = append(dst, `","ts":`...)
	dst = strconv.AppendInt(dst, ts, 10)
	dst = append(dst, `,"user_id":"`...)
	user = len(dst)
	dst = append(dst, 'u')
	dst = appendPadded(dst, u, 7)
	userEnd = len(dst)
	dst = append(dst, `","country":"`...)
	dst = append(dst, m.country[own&255]...)
	dst = append(dst, `","device":`...)
	dst = append(dst, *device...)
	dst = append(dst, `,"title_id":"t`...)
	dst = appendPadded(dst, title, 5)
	dst = append(dst, `","action":"`...)
	dst = append(dst, action...)
	dst = append(dst, `","position_ms":`...)
	dst = strconv.AppendInt(dst, position, 10)
	dst = append(dst, `,"duration_ms":`...)
	dst = strconv.AppendInt(dst, duration, 10)
	dst = append(dst, `,"session":"s`...)
	dst = appendHex(dst, uint32(mix(session)))
	dst = append(dst, `","tags":`...)
	dst = append(dst, tags[d>>8&7]...)
	dst = append(dst, `,"payload":"`...)
	from := int(d >> 16 & (fillerSize - 1))
	dst = append(dst, m.filler[from:from+88+int(c>>3&31)]...)
	return append(dst, `"}`...), user, userEnd
}

// skewed draws a number whose logarithm is uniform (each doubling of the rank
// is drawn as often as the one before), which is Zipf's law with exponent 1 in steps.
// It is at least 2^low and below 2^(low+octaves).
func skewed(r uint64, low, octaves uint) uint64 {
	k := low + uint(r&0xffff)*octaves>>16
	return 1<<k | r>>16&(1<<k-1)
}

// rng is SplitMix64 (Steele, Lea, Flood 2014): any start gives a good sequence.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	return mix(uint64(*r))
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

const hexDigits = "0123456789abcdef"

// appendUUID appends a random UUID (version 4, RFC 9562) made of 122 of the bits.
func appendUUID(dst []byte, hi, lo uint64) []byte {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], hi)
	binary.BigEndian.PutUint64(raw[8:], lo)
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	var text [36]byte
	at := 0
	for i, c := range raw {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text[at] = '-'
			at++
		}
		text[at], text[at+1] = hexDigits[c>>4], hexDigits[c&15]
		at += 2
	}
	return append(dst, text[:]...)
}

func appendHex(dst []byte, v uint32) []byte {
	var text [8]byte
	for i := range text {
		text[i] = hexDigits[v>>28]
		v <<= 4
	}
	return append(dst, text[:]...)
}

// appendPadded appends v with leading zeros up to width, at most 20.
func appendPadded(dst []byte, v uint64, width int) []byte {
	var text [20]byte
	i := len(text)
	for ; v > 0 || width > 0; width-- {
		i--
		text[i] = byte('0' + v%10)
		v /= 10
	}
	return append(dst, text[i:]...)
}
