package configs_test

import (
	"os"
	"path/filepath"
	"testing"

	"keystone/configs"
)

// manyRoutes is one block with ten thousand instances.
const manyRoutes = `
locals {
  keys = toset([for i in range(1000) : format("k%04d", i)])
}
stream "in" {
  for_each = local.keys
  schema   = object({ user_id = string, country = string, position_ms = int })
}
sink "stdout" "out" {}
route "r" {
  for_each = toset(flatten([for k in local.keys : [for i in range(10) : "${k}-${i}"]]))
  from     = stream.in[substr(each.key, 0, 5)]
  filter   = "country in ['BR', 'US'] && position_ms > 1000 && user_id != each.key"
  project  = { user = "user_id", key = "each.key", pos = "position_ms / 1000" }
  to       = sink.out
}
`

func BenchmarkLoad10000(b *testing.B) {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.ks.hcl"), []byte(manyRoutes), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c, diags := configs.Load(configs.LoadOptions{Dir: dir, Catalog: testCatalog()})
		if diags.HasErrors() {
			b.Fatal(diags.Err())
		}
		if len(c.Routes) != 10_000 {
			b.Fatal(len(c.Routes))
		}
	}
}
