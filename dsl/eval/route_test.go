package eval_test

import (
	"strings"
	"testing"

	"keystone/configs/diag"
	"keystone/dsl/check"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

func mainRoute(t testing.TB) *ir.Route {
	in := types.AnyType
	return &ir.Route{
		Input: in, Format: ir.JSON, Decode: ir.DecodeFull, HasProject: true,
		Filter: []*ir.Expr{expr(t, "country in ['BR', 'US'] && device.type == 'tv' && position_ms > 1000", in)},
		Project: fields(t, in, "user_id", "user_id", "ts", "ts", "country", "country", "os", "device.os ?? 'unknown'",
			"pct", "position_ms / duration_ms * 100"),
	}
}

func TestMainRoute(t *testing.T) {
	e := program(t, mainRoute(t)).NewEval()
	in := &record.Batch{Records: []record.Record{
		{Value: []byte(`{"user_id":"u\u0041","ts":1.0,"country":"BR","device":{"type":"tv"},"position_ms":1500,"duration_ms":6000}`)},
		{Value: []byte(`{"user_id":"u1","ts":1,"country":"FR","device":{"type":"tv"},"position_ms":1500,"duration_ms":6000}`)},
		{Value: []byte(`{"user_id":"u1","country":"US","device":{"type":"tv","os":"x"},"position_ms":1500,"duration_ms":0}`)},
		{Value: []byte(`{"user_id":"u1"} x`)},
		{Value: []byte(`{"country":"US","device":"tv"}`)},
	}}
	want := []struct {
		verdict eval.Verdict
		text    string
	}{
		{eval.Passed, `{"user_id":"u\u0041","ts":1.0,"country":"BR","os":"unknown","pct":25}`},
		{eval.Filtered, ""},
		{eval.Failed, "division_by_zero"},
		{eval.Failed, "decode"},
		{eval.Failed, "type"},
	}
	for i, w := range want {
		var out record.Batch
		v, err := e.Run(in, i, &out)
		got := ""
		switch {
		case err != nil:
			got = err.Code
		case len(out.Records) == 1:
			got = string(out.Records[0].Value)
		}
		if v != w.verdict || got != w.text {
			t.Errorf("record %d: got %d %s (%v), want %d %s", i, v, got, err, w.verdict, w.text)
		}
		if v != eval.Passed && (len(out.Records) > 0 || len(out.Buf) > 0 || out.Bytes > 0) {
			t.Errorf("record %d: %d left something in the output", i, v)
		}
	}
}

func TestExamples(t *testing.T) {
	for _, f := range ir.Functions() {
		if len(f.Examples) == 0 {
			t.Errorf("%s has no examples", f.Name)
		}
		for _, ex := range f.Examples {
			t.Run(f.Name+"/"+strings.ReplaceAll(ex.Expr, "/", "÷"), func(t *testing.T) {
				if _, diags := check.Expr(diag.Text{S: ex.Expr}, check.Env{Event: types.AnyType}); ex.Error != "" && diags.HasErrors() {
					return // found before it runs
				}
				got, err := value(t, ex.Expr, ex.Event, types.AnyType)
				switch {
				case err != nil && err.Code != ex.Error:
					t.Errorf("%s on %s fails with %s: %s; want %s%s", ex.Expr, ex.Event, err.Code, err.Text, ex.Want, ex.Error)
				case err == nil && (ex.Error != "" || got != ex.Want):
					t.Errorf("%s on %s gives %s, want %s%s", ex.Expr, ex.Event, got, ex.Want, ex.Error)
				}
			})
		}
	}
}
