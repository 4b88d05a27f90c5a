package configs_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keystone/configs"
)

func TestListFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"main.ks.hcl", "b.ks.hcl", "main.prod.ks.hcl", "x.kstest.hcl", "keystone.ksvars", "dev-1.ksvars", "z.auto.ksvars", ".#main.ks.hcl", "main.ks.hcl~", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.ks.hcl"), 0o700); err != nil {
		t.Fatal(err)
	}
	files, diags := configs.ListFiles(dir)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	if want := []string{"b.ks.hcl", "dev-1.ksvars", "keystone.ksvars", "main.ks.hcl", "main.prod.ks.hcl", "x.kstest.hcl", "z.auto.ksvars"}; !slices.Equal(files.All(), want) {
		t.Errorf("all: %v", files.All())
	}
	if want := []string{"dev-1", "prod"}; !slices.Equal(files.Environments(), want) {
		t.Errorf("environments: %v", files.Environments())
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "main.ks.hcl")
	for _, c := range []struct{ name, dir, want string }{
		{"no directory", filepath.Join(dir, "missing"), "There is no directory"},
		{"no files", dir, "keystone init"},
		{"a file", path, "is a file. A configuration is a directory"},
		{"too large", dir, "at most 4194304"},
		{"too many words", dir, "at most 1000000"},
		{"no regular file", dir, "is not a regular file"},
	} {
		switch c.name {
		case "a file":
			if err := os.WriteFile(path, []byte("locals {}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		case "too large":
			if err := os.WriteFile(path, []byte(strings.Repeat("#\n", 3<<20)), 0o600); err != nil {
				t.Fatal(err)
			}
		case "too many words":
			if err := os.WriteFile(path, []byte("locals {\n  x = ["+strings.Repeat("[],", 400_000)+"]\n}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		case "no regular file":
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/dev/zero", path); err != nil {
				t.Fatal(err)
			}
		}
		got, diags := configs.Load(configs.LoadOptions{Dir: c.dir})
		if got != nil || len(diags) != 1 || !strings.Contains(diags[0].Detail, c.want) {
			t.Errorf("%s: %v", c.name, diags)
		}
	}
}

func TestFormat(t *testing.T) {
	out, diags := configs.Format("x", []byte("route \"a\" {\nfrom=stream.b\n  filter   = \"a==1\"\n}\n"))
	if want := "route \"a\" {\n  from   = stream.b\n  filter = \"a==1\"\n}\n"; string(out) != want || len(diags) > 0 {
		t.Errorf("%q %v", out, diags)
	}
	broken := []byte("route {")
	if out, diags := configs.Format("x", broken); !diags.HasErrors() || out != nil || diags[0].Range.File != "x" {
		t.Errorf("%q %v", out, diags)
	}
}

func TestStateDirPath(t *testing.T) {
	for dir, want := range map[string]string{".keystone": "/conf/.keystone/prod", "/var/lib/ks": "/var/lib/ks/prod"} {
		c := configs.Config{Dir: "/conf", Env: "prod", Settings: configs.Settings{StateDir: dir}}
		if got := c.StateDirPath(); got != want {
			t.Errorf("%s: %s", dir, got)
		}
	}
}
