package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"keystone/configs"
	"keystone/configs/addr"
)

// SavedPlan is what `plan -out` writes and `apply PLAN` carries out: the
// goal itself, not the files, which may have changed since, and the changes that were agreed
// to. It holds no secrets, only references.
type SavedPlan struct {
	Goal    []byte // as GoalsSpec.Encode gives it
	Sources []SourceFile
	Plan    Plan // Before and After of its changes are not saved; see Attach
}

const (
	savedKind   = "keystone plan"
	savedFormat = 1
	maxSaved    = 1 << 30 // bytes of a file
)

type savedFile struct {
	Kind   string          `json:"kind"`
	Format int             `json:"format"`
	SHA256 string          `json:"sha256"` // of Body
	Body   json.RawMessage `json:"body"`
}

// Encode gives the file's content.
func (p SavedPlan) Encode() ([]byte, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode the plan: %w", err)
	}
	sum := sha256.Sum256(body)
	b, err := json.Marshal(savedFile{Kind: savedKind, Format: savedFormat, SHA256: hex.EncodeToString(sum[:]), Body: body})
	if err != nil {
		return nil, fmt.Errorf("encode the plan: %w", err)
	}
	return append(b, '\n'), nil
}

// DecodePlan reads a saved plan, and refuses what is none, is damaged, or was written by a
// later version.
func DecodePlan(b []byte) (SavedPlan, error) {
	var f savedFile
	if len(b) > maxSaved {
		return SavedPlan{}, fmt.Errorf("the saved plan is larger than %d bytes", maxSaved)
	}
	if err := json.Unmarshal(b, &f); err != nil || f.Kind != savedKind {
		return SavedPlan{}, fmt.Errorf("this is not a saved plan; `keystone plan -out FILE` writes one")
	}
	if f.Format > savedFormat {
		return SavedPlan{}, fmt.Errorf("the saved plan has format %d, and this version of Keystone knows formats up to %d: apply it with the version that made it", f.Format, savedFormat)
	}
	if sum := sha256.Sum256(f.Body); hex.EncodeToString(sum[:]) != f.SHA256 {
		return SavedPlan{}, fmt.Errorf("the saved plan is damaged or was edited; make it again")
	}
	var p SavedPlan
	if err := json.Unmarshal(f.Body, &p); err != nil {
		return SavedPlan{}, fmt.Errorf("read the saved plan: %w", err)
	}
	return p, nil
}

// Check refuses a plan that was made against another revision, environment
// or namespace than the given, current one.
func (p SavedPlan) Check(current Revision) error {
	switch {
	case p.Plan.Env != current.Env:
		return &OtherGoalError{What: "environment", Got: p.Plan.Env, Want: current.Env}
	case p.Plan.Namespace != current.Namespace:
		return &OtherGoalError{What: "namespace", Got: p.Plan.Namespace, Want: current.Namespace}
	case p.Plan.Serial != current.Serial:
		return &StaleError{Planned: p.Plan.Serial, Stored: current.Serial}
	}
	return nil
}

// Proposal gives what Goals.Propose takes to carry out exactly this plan;
// cfg is the decoded Goal.
func (p SavedPlan) Proposal(cfg *configs.Config, who, why string) Proposal {
	return Proposal{Config: cfg, Who: who, Why: why, Sources: p.Sources, Serial: p.Plan.Serial, Allow: p.Plan.Destructive()}
}

// Attach completes the changes of a decoded plan with the resources of its goal.
func (p SavedPlan) Attach(cfg *configs.Config) Plan {
	out := p.Plan
	out.Changes = make([]Change, len(p.Plan.Changes))
	for i, c := range p.Plan.Changes {
		if c.Action != Delete && c.Action != Forget {
			c.After = resourceOf(cfg, c.Addr)
		}
		out.Changes[i] = c
	}
	return out
}

// Destructive gives the addresses whose changes lose data or kept state:
// applying the plan is the consent to these.
func (p Plan) Destructive() []addr.Addr {
	var out []addr.Addr
	for _, c := range p.Changes {
		if c.Destructive {
			out = append(out, c.Addr)
		}
	}
	return out
}
