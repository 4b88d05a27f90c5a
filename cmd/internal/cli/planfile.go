package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"keystone/cmd/internal/api"
)

// savedPlan is the file of plan -out: the plan as it was shown, the goal
// that it leads to with its secrets as references, and where it belongs.
type savedPlan struct {
	Keystone string          `json:"keystone"` // version that wrote it
	Place    savedPlace      `json:"place"`
	Options  api.PlanOptions `json:"options"`
	Plan     api.Plan        `json:"plan"`
	Goal     json.RawMessage `json:"goal"`
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
	p.Keystone = version
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	if err := renameio.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	return nil
}

const maxPlanFile = 256 << 20

// readPlan reads what savePlan wrote.
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
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := errors.Join(d.Decode(&p), trailing(d)); err != nil || len(p.Goal) == 0 || p.Plan.FormatVersion == "" {
		if strings.HasSuffix(filepath.Base(path), ".ks.hcl") {
			return p, usagef("%s is a configuration file; apply takes a saved plan or a directory", path)
		}
		return p, usagef("%s is not a plan that keystone plan -out saved", path)
	}
	if got, _, _ := strings.Cut(p.Plan.FormatVersion, "."); got != strings.Split(api.FormatVersion, ".")[0] {
		return p, usagef("%s was saved by another version of keystone (%s); plan again", path, p.Keystone)
	}
	return p, nil
}

func trailing(d *json.Decoder) error {
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the plan")
	}
	return nil
}
