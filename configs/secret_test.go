package configs_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/spec"
)

const secretConfig = `
variable "token" {
  type      = string
  sensitive = true
}
variable "creds" {
  type      = object({ user = string, nested = map(string) })
  sensitive = true
}
sink "stdout" "a" {
  password = "Bearer ${var.token}/${env("WHO")}"
  rotate {
    token = file("pw.txt")
  }
}
sink "stdout" "b" {
  password = var.creds.nested.pw
}
`

// TestSecrets holds that references are resolved when asked, and that no
// value of a secret is in anything that is stored or shown.
func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("main.ks.hcl", secretConfig)
	opts := configs.LoadOptions{Dir: dir, Catalog: testCatalog()}
	c, diags := configs.Load(opts) // without any of them
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	for _, s := range []spec.Secret{passwordOf(c, "a"), passwordOf(c, "b"), c.Sinks[addr.New("sink", "a")].Config.(*testSink).Rotate.Token} {
		if v, err := c.Secrets.Resolve(s); err == nil {
			t.Errorf("%s resolved to %q without being set", s.Reference(), v)
		}
	}
	write("pw.txt", "in-file\r\n")
	write("keystone.ksvars", "creds = {\n  user = \"u\"\n  nested = { pw = \"in-creds\" }\n}\n")
	opts.Environ = []string{"WHO=in-env", "KEYSTONE_VAR_token=in-var"}
	c, diags = configs.Load(opts)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	stored, err := configs.LoadSecrets(opts)
	if err.HasErrors() {
		t.Fatal(err.Err())
	}
	for _, secrets := range []*configs.Secrets{c.Secrets, stored} {
		for want, s := range map[string]spec.Secret{
			"Bearer in-var/in-env": passwordOf(c, "a"),
			"in-creds":             passwordOf(c, "b"),
			"in-file":              c.Sinks[addr.New("sink", "a")].Config.(*testSink).Rotate.Token,
		} {
			if got, err := secrets.Resolve(s); err != nil || got != want {
				t.Errorf("%s: %q, %v; want %q", s.Reference(), got, err, want)
			}
		}
	}
	shown, jsonErr := json.Marshal(c.Resources)
	if jsonErr != nil {
		t.Fatal(jsonErr)
	}
	all := string(shown) + dump(c) + fmt.Sprintf("%v %+v %#v", passwordOf(c, "a"), c.Sinks[addr.New("sink", "a")].Config, passwordOf(c, "b"))
	for _, value := range []string{"in-var", "in-env", "in-creds", "in-file"} {
		if strings.Contains(all, value) {
			t.Errorf("%q is shown", value)
		}
	}
}

func passwordOf(c *configs.Config, sink string) spec.Secret {
	return c.Sinks[addr.New("sink", sink)].Config.(*testSink).Password
}

// TestHiddenSource holds that no message asks for a line of source in which a
// secret may stand.
func TestHiddenSource(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.ks.hcl": "variable \"pin\" {\n  type      = number\n  sensitive = true\n  default   = \"hunter2\"\n}\n" +
			"sink \"stdout\" \"a\" {\n  password = \"hunter2\"\n}\n" +
			"sink \"stdout\" \"b\" {\n  password = join(\"\", [\"hunter2\", env(\"X\")])\n}\n",
		"keystone.ksvars": "other = \"hunter2\"\nbroken = \"hunter2\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, diags := configs.Load(configs.LoadOptions{Dir: dir, Catalog: testCatalog()})
	if len(diags) < 4 {
		t.Errorf("only %v", diags)
	}
	for _, d := range diags {
		if !d.Hidden || strings.Contains(d.Error(), "hunter2") {
			t.Errorf("shown: %v", d)
		}
	}
}

// TestWrittenSecrets holds that a user's name may be written out and is
// resolved, that a password is warned of, and that one which was not stored is
// said to be missing where it is written.
func TestWrittenSecrets(t *testing.T) {
	dir := t.TempDir()
	text := "cluster \"main\" {\n  brokers = [\"h:9092\"]\n\n  sasl {\n    mechanism = \"plain\"\n    username  = \"ada\"\n    password  = \"hunter2\"\n  }\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "main.ks.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, diags := configs.Load(configs.LoadOptions{Dir: dir, Catalog: testCatalog()})
	if c == nil || len(diags) != 1 || diags[0].Code != "KS1110" || diags[0].Range.Start.Line != 7 {
		t.Fatalf("want one warning, of the password: %v", diags)
	}
	user := c.Clusters[addr.New("cluster", "main")].SASL.Username
	if got, err := c.Secrets.Resolve(user); got != "ada" || err != nil || user.Reference() != `"ada"` {
		t.Errorf("the name is %q, %v; it is shown as %s", got, err, user.Reference())
	}
	gone := spec.Secret{Parts: []spec.SecretPart{{Omitted: "main.ks.hcl:7:17"}}}
	if _, err := c.Secrets.Resolve(gone); err == nil || !strings.Contains(err.Error(), "main.ks.hcl:7:17") || !strings.Contains(err.Error(), "env(") {
		t.Errorf("a secret that was not stored: %v", err)
	}
}
