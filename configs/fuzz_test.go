package configs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"keystone/configs"
)

// FuzzLoad loads whatever bytes as a configuration with an overlay: it must
// say what is wrong and never panic, and what loads must survive the store.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*/*.ks.hcl", "testdata/bad/*/*.ks.hcl"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range names {
			src, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src, []byte("locals {}"), []byte("a = 1"))
		}
	}
	f.Add([]byte(`route "r" { filter = local.a }`), []byte(`locals { a = (local.b) }`), []byte(`x = [`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, base, overlay, vars []byte) {
		for name, src := range map[string][]byte{"main.ks.hcl": base, "main.prod.ks.hcl": overlay, "keystone.ksvars": vars} {
			if err := os.WriteFile(filepath.Join(dir, name), src, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, diags := configs.Load(configs.LoadOptions{Dir: dir, Env: "prod", Catalog: testCatalog()})
		if (c == nil) != diags.HasErrors() {
			t.Fatalf("configuration %v with %v", c, diags)
		}
		for _, d := range diags {
			if d.Code == "" || d.Summary == "" {
				t.Fatalf("incomplete: %+v", d)
			}
		}
		if c == nil {
			return
		}
		stored, err := json.Marshal(c.Resources)
		if err != nil {
			t.Fatal(err)
		}
		var rs []configs.Resource
		if err := json.Unmarshal(stored, &rs); err != nil {
			t.Fatal(err)
		}
		again, diags := configs.FromResources(rs, configs.Meta{Dir: c.Dir, Env: c.Env, Settings: c.Settings}, testCatalog())
		if again == nil {
			t.Fatal(diags.Err())
		}
		if dump(again) != dumpWithout(c) {
			t.Fatalf("%s\n%s", dump(again), dumpWithout(c))
		}
	})
}

// dumpWithout leaves out what is not among the resources.
func dumpWithout(c *configs.Config) string {
	x := *c
	x.Moved, x.Removed = nil, nil
	return dump(&x)
}
