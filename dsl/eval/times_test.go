package eval

import (
	"math"
	"math/big"
	"testing"
	"time"
)

func FuzzTimeOfFloat(f *testing.F) {
	for _, x := range []float64{0, 1.5, -1.5, 0.1, -0.1, 1e20, -1e20, 1 << 65, 253402300799.9, -62167219200, 1e-300, -1e-300, 1767225600123.25, math.MaxFloat64} {
		for unit := range uint8(4) {
			f.Add(x, unit)
		}
	}
	f.Fuzz(func(t *testing.T, x float64, u uint8) {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return
		}
		unit := []int64{1, 1000, 1e6, 1e9}[u%4]
		got := (&machine{}).timeOfFloat(x, unit, nil)
		r := new(big.Rat).SetFloat64(x)
		r.Mul(r, big.NewRat(1e9, unit))
		ns := new(big.Int).Div(r.Num(), r.Denom())
		sec, rest := new(big.Int).DivMod(ns, big.NewInt(1e9), new(big.Int))
		if !sec.IsInt64() || sec.Int64() < firstSecond || sec.Int64() > lastSecond {
			if got.k != kErr {
				t.Fatalf("%v of %d: got %v, want an error", x, unit, got)
			}
			return
		}
		if got.k != kTime || got.n != sec.Int64() || int64(got.aux) != rest.Int64() {
			t.Fatalf("%v of %d: got %v, want %v %v", x, unit, got, sec, rest)
		}
	})
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456789+23:59", "2024-02-29T00:00:00-00:01", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.9Z", "2023-02-29T00:00:00Z", "2026-01-02T03:04:60Z", "2026-01-02T24:00:00Z", "2026-01-02", "1900-03-01T00:00:00Z", "2026-01-02T03:04:05,5Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
			got, ok := parseTime(layout, []byte(s))
			want, err := time.Parse(layout, s)
			if ok != (err == nil) || ok && (got.n != want.Unix() || int(got.aux) != want.Nanosecond()) {
				t.Fatalf("%q in %s: got %v %t, want %v %v", s, layout, got, ok, want, err)
			}
		}
	})
}
