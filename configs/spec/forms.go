package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"

	"keystone/configs/diag"
)

// The forms in which a value may stand, read as what an option wants.

func asInt64(v any) (int64, bool) {
	if r := reflect.ValueOf(v); r.IsValid() && r.CanInt() {
		return r.Int(), true
	}
	return 0, false
}

func asString(v any) (string, bool) {
	if r := reflect.ValueOf(v); r.IsValid() && r.Kind() == reflect.String {
		return r.String(), true
	}
	return "", false
}

// fingerprint tells literals apart without showing them.
func fingerprint(s string) string {
	sum := sha256.Sum256([]byte("keystone literal\x00" + s))
	return hex.EncodeToString(sum[:4])
}

func asFloat64(v Value) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

func stringList(v Value) ([]string, bool) {
	list, ok := v.([]Value)
	if !ok {
		return nil, false
	}
	out := make([]string, len(list))
	for i, x := range list {
		if out[i], ok = x.(string); !ok {
			return nil, false
		}
	}
	return out, true
}

func stringMap(v Value) (map[string]string, bool) {
	m, ok := v.(map[string]Value)
	if !ok {
		return nil, false
	}
	out := make(map[string]string, len(m))
	for k, x := range m {
		if out[k], ok = x.(string); !ok {
			return nil, false
		}
	}
	return out, true
}

// asText reads a text; a plain string is one without a way back to its runes.
func asText(v Value, rng diag.Range) (diag.Text, bool) {
	switch v := v.(type) {
	case diag.Text:
		return v, true
	case string:
		return diag.Text{S: v, Range: rng}, true
	}
	return diag.Text{}, false
}

func asTexts(v Value, rng diag.Range) ([]diag.Text, bool) {
	switch v := v.(type) {
	case []diag.Text:
		return v, true
	case []Value:
		out := make([]diag.Text, len(v))
		for i, x := range v {
			t, ok := asText(x, rng)
			if !ok {
				return nil, false
			}
			out[i] = t
		}
		return out, true
	}
	t, ok := asText(v, rng)
	return []diag.Text{t}, ok
}
