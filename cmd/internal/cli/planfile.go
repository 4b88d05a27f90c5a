package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"keystone/cmd/internal/api"
)

// planFile is what is on disk: the plan, with what tells it from any other file.
type planFile struct {
	Kind     string          `json:"kind"`
	Format   int             `json:"format"`
	Keystone string          `json:"keystone"` // version that wrote it
	SHA256   string          `json:"sha256"`   // of Body
	Body     json.RawMessage `json:"body"`
}

const (
	planKind   = "keystone plan"
	planFormat = 1
)

// savedPlan is the content of the file of plan -out: the plan as it was shown, the goal
// that it leads to with its secrets as references, and where it belongs.
type savedPlan struct {
	Place   savedPlace      `json:"place"`
	Options api.PlanOptions `json:"options"`
	Plan    api.Plan        `json:"plan"`
	Goal    json.RawMessage `json:"goal"`
}

// savedPlace is absolute: the plan may be applied from elsewhere.
type savedPlace struct {
	Dir      string `json:"dir"`
	Env      string `json:"environment"`
	StateDir string `json:"state_dir"`
}

func (p place) saved() savedPlace {
	return savedPlace{Dir: absolute(p.dir), Env: p.env, StateDir: absolute(p.stateDir)}
}

func (s savedPlace) place() place { return place{dir: s.Dir, env: s.Env, stateDir: s.StateDir} }

// savePlan writes the file whole or not at all. Only its owner may read it:
// a plan shows what a configuration holds.
func savePlan(path string, p savedPlan) error {
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	b, err := json.Marshal(planFile{Kind: planKind, Format: planFormat, Keystone: version, SHA256: checksum(body), Body: body})
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	if err := renameio.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	return nil
}

func checksum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

const maxPlanFile = 256 << 20

// readPlan reads what savePlan wrote. What is none, was damaged or edited, or
// is of a later version is refused.
func readPlan(path string) (savedPlan, error) {
	var p savedPlan
	f, err := os.Open(path)
	if err != nil {
		return p, usagef("%v", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPlanFile+1))
	if err != nil {
		return p, fmt.Errorf("read the plan: %w", err)
	}
	var file planFile
	if err := json.Unmarshal(b, &file); err != nil || file.Kind != planKind {
		if strings.HasSuffix(filepath.Base(path), ".ks.hcl") {
			return p, usagef("%s is a configuration file; apply takes a saved plan or a directory", path)
		}
		return p, usagef("%s is not a plan that keystone plan -out saved", path)
	}
	if file.Format != planFormat {
		return p, usagef("%s was saved by another version of keystone (%s): apply it with that one, or plan again", path, file.Keystone)
	}
	if err := json.Unmarshal(file.Body, &p); err != nil || checksum(file.Body) != file.SHA256 {
		return p, usagef("%s is damaged or was edited: plan again", path)
	}
	return p, nil
}
