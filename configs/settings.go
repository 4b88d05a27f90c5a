package configs

import (
	"net"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-version"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
)

// Options declares the block keystone.
func (s *Settings) Options() spec.Options {
	return spec.Options{
		spec.String("required_version", &s.RequiredVersion, "Versions of Keystone that may run this configuration.").Effect(spec.Live).Eg(`">= 0.1, < 2.0"`),
		spec.String("namespace", &s.Namespace, "The namespace that this configuration owns: nothing outside of it is ever changed.").Default("default").Effect(spec.Replace),
		spec.String("listen", &s.Listen, "Address of the HTTP API, HOST:PORT, besides the unix socket in the state directory.").Eg(`"127.0.0.1:7070"`),
		spec.String("state_dir", &s.StateDir, "Directory for what this machine keeps, one folder per environment inside.").Default(".keystone").Effect(spec.Replace),
	}
}

func (s *Settings) check(body spec.Body, running string, diags *diag.Diagnostics) {
	if !isNamespace(s.Namespace) {
		diags.Addf(attrRange(body, "namespace"), codeBlockValue, "Not a namespace", "%q cannot name a namespace: it begins with a letter a to z, goes on with a to z, 0 to 9, _ and -, and has at most 63 of them.", s.Namespace)
	}
	if s.Listen != "" {
		if _, _, err := net.SplitHostPort(s.Listen); err != nil {
			diags.Addf(attrRange(body, "listen"), codeBlockValue, "Not an address", "%q is not HOST:PORT, such as \"127.0.0.1:7070\".", s.Listen)
		}
	}
	if s.StateDir == "" {
		diags.Addf(attrRange(body, "state_dir"), codeBlockValue, "Not a directory", "state_dir is a path; leave it out for .keystone.")
	}
	if s.RequiredVersion == "" {
		return
	}
	rng := attrRange(body, "required_version")
	want, err := version.NewConstraint(s.RequiredVersion)
	if err != nil {
		diags.Addf(rng, codeBlockValue, "Not a version constraint", "%q is not like \">= 0.1, < 2.0\".", s.RequiredVersion)
		return
	}
	if have, err := version.NewVersion(strings.TrimPrefix(running, "v")); err == nil && !want.Check(have.Core()) {
		diags.Addf(rng, codeVersion, "Another version of Keystone is required", "This is Keystone %s, and the configuration requires %s.", running, s.RequiredVersion)
	}
}

// settings evaluates the block keystone.
func (l *loader) settings() Settings {
	var s Settings
	opts := s.Options()
	body := spec.Body{}
	if b := l.tree.settings; b != nil {
		b.addr = addr.New("keystone", "")
		body = l.body(b, b.body, b.header, opts, nil)
	}
	l.applySets(addr.New("keystone", ""), opts, &body)
	l.diags.Append(spec.Decode(opts, body)...)
	s.check(body, l.opts.Version, &l.diags)
	return s
}

// StateDirPath gives the directory for what this machine keeps of the
// environment: DIR/.keystone/ENV unless state_dir says otherwise.
func (c *Config) StateDirPath() string {
	dir := c.Settings.StateDir
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(c.Dir, dir)
	}
	return filepath.Join(dir, c.Env)
}
