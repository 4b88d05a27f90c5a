package wire

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"keystone/configs"
)

// goalFormat is the version of a stored goal. A newer Keystone reads older
// ones; an older one refuses newer ones.
const goalFormat = 1

// storedGoal is a configuration as it is stored and sent: evaluated resources
// and what belongs to none of them. Secrets are references.
type storedGoal struct {
	Format    int                `json:"format"`
	Meta      configs.Meta       `json:"meta"`
	Resources []configs.Resource `json:"resources"`
}

// EncodeGoal gives a configuration in the form that is stored and sent:
// secrets are references.
func EncodeGoal(c *configs.Config) ([]byte, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("the configuration's directory: %w", err)
	}
	return json.Marshal(storedGoal{
		Format:    goalFormat,
		Meta:      configs.Meta{Dir: dir, Env: c.Env, Settings: c.Settings, Moved: c.Moved, Removed: c.Removed},
		Resources: c.Resources,
	})
}

// goalDir gives the directory whose files a stored goal was read from; "" if
// that cannot be read.
func goalDir(b []byte) string {
	var g struct {
		Meta struct {
			Dir string `json:"dir"`
		} `json:"meta"`
	}
	if json.Unmarshal(b, &g) != nil {
		return ""
	}
	return g.Meta.Dir
}

// DecodeGoal reads what EncodeGoal gave.
func DecodeGoal(b []byte) (*configs.Config, error) {
	var g storedGoal
	if err := json.Unmarshal(b, &g); err != nil {
		return nil, fmt.Errorf("read a stored goal: %w", err)
	}
	if g.Format != goalFormat {
		return nil, fmt.Errorf("the stored goal has format %d, and this version of Keystone knows format %d: use the version that wrote it, or a later one", g.Format, goalFormat)
	}
	c, diags := configs.FromResources(g.Resources, g.Meta, Catalog())
	if err := diags.Err(); err != nil {
		return nil, fmt.Errorf("the stored goal does not fit this version of Keystone: %w", err)
	}
	return c, nil
}
