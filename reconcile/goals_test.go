package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
)

// history is Revisions in memory.
type history struct{ revs []Revision }

func (h *history) Current(context.Context) (Revision, error) {
	if len(h.revs) == 0 {
		return Revision{Env: "default", Namespace: "default"}, nil
	}
	return h.revs[len(h.revs)-1], nil
}

func (h *history) Commit(_ context.Context, r Revision, serial int64) (Revision, error) {
	if int64(len(h.revs)) != serial {
		return r, &StaleError{serial, int64(len(h.revs))}
	}
	r.Serial, r.Namespace = serial+1, "default"
	h.revs = append(h.revs, r)
	return r, nil
}

func (h *history) Audit(context.Context, AuditEntry) error { return nil }

// encodeBlocks and decodeBlocks stand for configs: the options of each resource.
func encodeBlocks(cfg *configs.Config) ([]byte, error) {
	m := map[addr.Addr]map[string]string{}
	for _, r := range cfg.Resources {
		m[r.Addr] = map[string]string{"": r.Kind}
		for name, o := range r.Options {
			m[r.Addr][name] = o.Canonical
		}
		for name, a := range r.Body.Attrs {
			if s, ok := a.Value.(spec.Secret); ok {
				b, err := json.Marshal(s)
				if err != nil {
					return nil, err
				}
				m[r.Addr]["secret "+name] = string(b)
			}
		}
	}
	return json.Marshal(m)
}

func decodeBlocks(b []byte) (*configs.Config, error) {
	m := map[addr.Addr]map[string]string{}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	x := blocks{res: map[addr.Addr]block{}}
	for a, opts := range m {
		kind := opts[""]
		delete(opts, "")
		x.res[a] = block{kind, opts}
	}
	return x.config(), nil
}

func newGoals(h *history, l *Loop) *Goals {
	return NewGoals(GoalsSpec{Revisions: h, Loop: l, Encode: encodeBlocks, Decode: decodeBlocks})
}

func TestProposals(t *testing.T) {
	h := &history{}
	g := newGoals(h, nil)
	if err := g.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	propose := func(b blocks, serial int64, allow ...addr.Addr) (Revision, error) {
		return g.Propose(t.Context(), Proposal{Config: b.config(), Who: "ada", Serial: serial, Allow: allow})
	}
	r, err := propose(plays(), 0)
	if err != nil || r.Serial != 1 || r.Who != "ada" || r.Time.IsZero() {
		t.Fatalf("first: %+v, %v", r, err)
	}
	if r, err := propose(plays(), Latest); err != nil || r.Serial != 1 {
		t.Fatalf("the same again: %+v, %v", r, err)
	}
	var stale *StaleError
	if _, err := propose(plays(), 0); !errors.As(err, &stale) || stale.Stored != 1 {
		t.Fatalf("stale: %v", err)
	}
	b := plays()
	b.set(must("route.tv"), "filter", `"b"`)
	if r, err := propose(b, 1); err != nil || r.Serial != 2 {
		t.Fatalf("an edit: %+v, %v", r, err)
	}
	if r, err := propose(b, 2, must("stream.tv")); err != nil || r.Serial != 3 || !slices.Equal(r.Allow, []addr.Addr{must("stream.tv")}) {
		t.Fatalf("consent to the same goal: %+v, %v", r, err)
	}
	if r, err := propose(b, 3, must("stream.tv")); err != nil || r.Serial != 3 {
		t.Fatalf("the same consent: %+v, %v", r, err)
	}
	other := plays().config()
	other.Settings.Namespace = "ads"
	var wrong *OtherGoalError
	if _, err := g.Propose(t.Context(), Proposal{Config: other, Serial: Latest}); !errors.As(err, &wrong) {
		t.Fatalf("another namespace: %v", err)
	}
	if s := g.State(); s.Revision.Serial != 3 || s.Config == nil || s.Message() != "" {
		t.Errorf("state: %+v", s)
	}
}

func TestBrokenEditsStayVisible(t *testing.T) {
	g := newGoals(&history{}, nil)
	if err := g.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ds diag.Diagnostics
	ds.Warnf(diag.Range{}, "KS3001", "Only a warning", "w")
	g.Broken(ds, nil)
	if m := g.State().Message(); m != "" {
		t.Errorf("a warning is not broken: %q", m)
	}
	ds.Addf(diag.Range{File: "a.ks.hcl", Start: diag.Pos{Line: 3, Column: 1}}, "KS1203", "Unknown sink kind", "There is none.")
	g.Broken(ds, nil)
	if m := g.State().Message(); m != "nothing runs yet; the files have an error: a.ks.hcl:3:1: Unknown sink kind (KS1203): There is none." {
		t.Errorf("message %q", m)
	}
	if _, err := g.Propose(t.Context(), Proposal{Config: plays().config(), Serial: Latest}); err != nil {
		t.Fatal(err)
	}
	if s := g.State(); len(s.Broken) != 0 || s.Message() != "" {
		t.Errorf("still broken: %+v", s)
	}
	ds.Addf(diag.Range{}, "KS1204", "Another", "x")
	g.Broken(ds, nil)
	if m := g.State().Message(); !strings.HasPrefix(m, "what runs is revision 1; the files have 2 errors, the first: a.ks.hcl:3:1") {
		t.Errorf("message %q", m)
	}
	g.Broken(nil, errors.New("there are no *.ks.hcl files"))
	if m := g.State().Message(); m != "what runs is revision 1; the files are not taken: there are no *.ks.hcl files" {
		t.Errorf("message %q", m)
	}
}

func TestTheStoredGoalRunsAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, rt, ledger := &history{}, newSimulated(), newMemory()
		run := startLoop(t, rt, ledger)
		g := newGoals(h, run.loop)
		b := plays()
		if _, err := g.Propose(t.Context(), Proposal{Config: b.config(), Serial: 0}); err != nil {
			t.Fatal(err)
		}
		run.settle(1)
		delete(b.res, must("route.archive"))
		delete(b.res, must("route.tv"))
		delete(b.res, must("stream.tv"))
		if _, err := g.Propose(t.Context(), Proposal{Config: b.config(), Serial: 1}); err != nil {
			t.Fatal(err)
		}
		if s := run.settle(2); len(s.Withheld) != 1 {
			t.Fatalf("settled: %+v", s)
		}
		if _, err := g.Propose(t.Context(), Proposal{Config: b.config(), Serial: 2, Allow: []addr.Addr{must("stream.tv")}}); err != nil {
			t.Fatal(err)
		}
		run.stop() // before the loop has turned
		rt.w.crash()

		run = startLoop(t, rt, ledger)
		defer func() { run.stop() }()
		if err := newGoals(h, run.loop).Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		run.settle(3)
		run.workers("in")
		if d := rt.deleted(); !slices.Equal(d, []string{"tv"}) {
			t.Errorf("deleted %v: what was agreed to before the crash is done after it", d)
		}
		o, err := run.loop.Look(t.Context())
		if err != nil || len(o.States) != len(b.res) {
			t.Errorf("Look = %d states, %v", len(o.States), err)
		}
	})
}

func TestGoalsHoldNoSecrets(t *testing.T) {
	h := &history{}
	g := newGoals(h, nil)
	cfg := plays().config()
	for i := range cfg.Resources {
		cfg.Resources[i].Body.Attrs["password"] = spec.Attr{Value: spec.Secret{Parts: []spec.SecretPart{{Literal: "hunter2"}}}}
		cfg.Resources[i].Body.Attrs["key"] = spec.Attr{Value: spec.Secret{Parts: []spec.SecretPart{{Literal: "ApiKey "}, {Env: "K"}}}}
	}
	if _, err := g.Propose(t.Context(), Proposal{Config: cfg, Serial: 0}); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(h.revs[0].Goal, []byte("hunter2")) || !bytes.Contains(h.revs[0].Goal, []byte("ApiKey ")) {
		t.Errorf("stored: %s", h.revs[0].Goal)
	}
	if got := Omitted(WithoutLiterals(cfg.Resources)); len(got) == 0 || !strings.HasPrefix(got[0], "password of ") {
		t.Errorf("left out: %q", got)
	}
	if got := Omitted(cfg.Resources); got != nil {
		t.Errorf("left out of what is whole: %q", got)
	}
	if s, _ := cfg.Resources[0].Body.Attrs["password"].Value.(spec.Secret); s.Parts[0].Literal != "hunter2" {
		t.Error("what runs lost its secret")
	}
}
