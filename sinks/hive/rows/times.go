package rows

import "time"

const (
	microsPerSecond = 1_000_000
	secondsPerDay   = 86_400
	// The years that Hive, Spark and most languages have: 0001 to 9999.
	firstSecond = -62_135_596_800
	lastSecond  = 253_402_300_799
)

// The ways in which text may not be a time.
type timeFault uint8

const (
	timeFits timeFault = iota
	timeForm
	timeRange
)

// parseTimestamp reads RFC 3339 text as microseconds since 1970, cutting off
// what is behind them.
func parseTimestamp(s []byte) (int64, timeFault) {
	sec, nanos, ok := rfc3339(s)
	if !ok {
		t, err := time.Parse(time.RFC3339Nano, string(s))
		if err != nil {
			return 0, timeForm
		}
		sec, nanos = t.Unix(), t.Nanosecond()
	}
	if sec < firstSecond || sec > lastSecond {
		return 0, timeRange
	}
	return sec*microsPerSecond + int64(nanos/1000), timeFits
}

// parseDate reads a day as days since 1970.
func parseDate(s []byte) (int32, timeFault) {
	days, ok := date(s)
	if !ok || len(s) != 10 {
		return 0, timeForm
	}
	if days < firstSecond/secondsPerDay {
		return 0, timeRange
	}
	return int32(days), timeFits
}

// rfc3339 reads the usual form, YYYY-MM-DDTHH:MM:SS[.fff](Z|±HH:MM); the time package reads the rest.
func rfc3339(s []byte) (sec int64, nanos int, ok bool) {
	days, ok := date(s)
	if !ok || len(s) < 20 || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return 0, 0, false
	}
	h, m, x := two(s[11:]), two(s[14:]), two(s[17:])
	if h < 0 || h > 23 || m < 0 || m > 59 || x < 0 || x > 59 {
		return 0, 0, false
	}
	sec = days*secondsPerDay + int64(h*3600+m*60+x)
	i := 19
	if s[i] == '.' {
		scale := int(1e8)
		for i++; i < len(s) && s[i]-'0' <= 9; i++ {
			nanos += int(s[i]-'0') * scale
			scale /= 10
		}
		if i == 20 || i > 29 || i == len(s) {
			return 0, 0, false
		}
	}
	if s[i] == 'Z' {
		return sec, nanos, i+1 == len(s)
	}
	if s[i] != '+' && s[i] != '-' || i+6 != len(s) || s[i+3] != ':' {
		return 0, 0, false
	}
	oh, om := two(s[i+1:]), two(s[i+4:])
	if oh < 0 || oh > 23 || om < 0 || om > 59 {
		return 0, 0, false
	}
	off := int64(oh*3600 + om*60)
	if s[i] == '+' {
		off = -off
	}
	return sec + off, nanos, true
}

// two reads two digits, -1 if they are not.
func two(s []byte) int {
	if s[0]-'0' > 9 || s[1]-'0' > 9 {
		return -1
	}
	return int(s[0]-'0')*10 + int(s[1]-'0')
}

var daysBefore = [...]int{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365}

// date reads YYYY-MM-DD at the beginning of s, as days since 1970.
func date(s []byte) (int64, bool) {
	if len(s) < 10 || s[4] != '-' || s[7] != '-' {
		return 0, false
	}
	y1, y2, m, d := two(s), two(s[2:]), two(s[5:]), two(s[8:])
	if y1 < 0 || y2 < 0 || m < 1 || m > 12 || d < 1 {
		return 0, false
	}
	y := y1*100 + y2
	leap := y%4 == 0 && (y%100 != 0 || y%400 == 0)
	last := daysBefore[m] - daysBefore[m-1]
	if m == 2 && leap {
		last++
	}
	if d > last {
		return 0, false
	}
	days := y*365 + (y+3)/4 - (y+99)/100 + (y+399)/400 + daysBefore[m-1] + d - 1
	if leap && m > 2 {
		days++
	}
	return int64(days - 719_528), true
}
