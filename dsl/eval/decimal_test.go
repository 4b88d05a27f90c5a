package eval

import (
	"math/big"
	"strings"
	"testing"

	"keystone/dsl/types"
)

// FuzzFitsDecimal compares the digits of the text with exact arithmetic.
func FuzzFitsDecimal(f *testing.F) {
	for _, s := range []string{"0", "-0.0", "99.996", "999.95", "999.9499", "0.05", "0.5", "0.49", "9.995e2", "0.0009995e6", "1e-7", "95e-2", "123456789012345678901234567890.5", "000.1"} {
		f.Add(s, uint8(4), uint8(1))
		f.Add(s, uint8(1), uint8(1))
		f.Add(s, uint8(3), uint8(0))
	}
	f.Fuzz(func(t *testing.T, s string, precision, scale uint8) {
		typ, err := types.DecimalOf(int(precision), int(scale))
		if err != nil || strings.Trim(s, "0123456789.eE+-") != "" || strings.ContainsAny(s[max(0, len(s)-1):], "eE") {
			t.Skip()
		}
		if i := strings.IndexAny(s, "eE"); i >= 0 && len(s)-i > 4 {
			t.Skip() // too large for exact arithmetic
		}
		mantissa, _, _ := strings.Cut(strings.ToLower(s), "e")
		if strings.Contains(mantissa, "+") || strings.LastIndex(mantissa, "-") > 0 {
			t.Skip()
		}
		r, ok := new(big.Rat).SetString(s)
		if !ok {
			t.Skip()
		}
		whole, _, _ := strings.Cut(r.Abs(r).FloatString(int(scale)), ".")
		want := len(strings.TrimLeft(whole, "0")) <= int(precision)-int(scale)
		if got := fitsDecimal([]byte(s), typ); got != want {
			t.Errorf("%s fits %s: %v, want %v", s, typ, got, want)
		}
	})
}
