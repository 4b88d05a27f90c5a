package spec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Forever is the duration that is written "forever". Only options whose
// lower bound is negative take it.
const Forever time.Duration = -1

const (
	day  = 24 * time.Hour
	week = 7 * day
)

var durationUnits = []struct {
	name string
	size time.Duration
}{
	{"ns", time.Nanosecond}, {"us", time.Microsecond}, {"ms", time.Millisecond},
	{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", day}, {"w", week},
}

// ParseDuration reads "10s", "1h30m", "7d", "2w" or "forever". A number needs its unit.
func ParseDuration(s string) (time.Duration, error) {
	if s == "forever" {
		return Forever, nil
	}
	bad := fmt.Errorf(`%q is not a duration; write a number with a unit, such as "500ms", "10s", "24h" or "7d"`, s)
	if s == "" {
		return 0, bad
	}
	var total float64
	for rest := s; rest != ""; {
		n := 0
		for n < len(rest) && (rest[n] >= '0' && rest[n] <= '9' || rest[n] == '.') {
			n++
		}
		value, err := strconv.ParseFloat(rest[:n], 64)
		if err != nil {
			return 0, bad
		}
		u := n
		for u < len(rest) && rest[u] >= 'a' && rest[u] <= 'z' {
			u++
		}
		size, ok := unitSize(rest[n:u])
		if !ok {
			return 0, bad
		}
		total += value * float64(size)
		rest = rest[u:]
	}
	if total >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is longer than the longest duration, which is about 292 years", s)
	}
	return time.Duration(math.Round(total)), nil
}

func unitSize(name string) (time.Duration, bool) {
	for _, u := range durationUnits {
		if u.name == name {
			return u.size, true
		}
	}
	return 0, false
}

// FormatDuration writes a duration so that ParseDuration gives it back:
// "7d", "1h30m", "100ms".
func FormatDuration(d time.Duration) string {
	if d < 0 {
		return "forever"
	}
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	for i := len(durationUnits) - 2; i >= 0; i-- { // weeks are read, never written
		u := durationUnits[i]
		if n := d / u.size; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10) + u.name)
			d -= n * u.size
		}
	}
	return b.String()
}

var byteUnits = []struct {
	name string
	size int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// ParseBytes reads a size: "1048576", "1MiB", "1.5GB".
func ParseBytes(s string) (int64, error) {
	number, size := strings.TrimSpace(s), int64(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	bad := fmt.Errorf(`%q is not a size; write a number of bytes, or a number with a unit, such as "512KiB", "1MiB" or "1GB"`, s)
	if number == "" || strings.Trim(number, "0123456789.") != "" {
		return 0, bad
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && n <= math.MaxInt64/size {
		return n * size, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, bad
	}
	if f *= float64(size); f >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is larger than the largest size", s)
	}
	return int64(math.Round(f)), nil
}

// FormatBytes writes a size with the largest binary unit that divides it.
func FormatBytes(n int64) string {
	for i := 3; i >= 0; i-- {
		if u := byteUnits[i]; n != 0 && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}
