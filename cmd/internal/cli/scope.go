package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs"
	"keystone/configs/diag"
)

// scope is which configuration a command is about.
type scope struct {
	env      string
	vars     []string
	varFiles []string
}

func (s *scope) envFlag(f *pflag.FlagSet) {
	f.StringVar(&s.env, "env", "", "the `ENVIRONMENT` (default KEYSTONE_ENV, else \"default\")")
}

func (s *scope) flags(f *pflag.FlagSet) {
	s.envFlag(f)
	f.StringArrayVar(&s.vars, "var", nil, "set an input variable: `NAME=VALUE`; may be repeated")
	f.StringArrayVar(&s.varFiles, "var-file", nil, "read input variables from `FILE`; may be repeated")
}

// environment is -env, else KEYSTONE_ENV, else default.
func (a *App) environment(s scope) string {
	for _, e := range []string{s.env, a.getenv("KEYSTONE_ENV")} {
		if e != "" {
			return e
		}
	}
	return "default"
}

// loaded is a configuration without errors, with the sources for messages.
type loaded struct {
	cfg   *configs.Config
	dir   string
	diags []api.Diagnostic // warnings
}

// load reads and checks the configuration. Problems are printed on the error
// stream; with errors the command ends with Invalid.
func (a *App) load(s scope, dir string) (loaded, error) {
	l, err := a.check(s, dir)
	if err != nil {
		return l, err
	}
	if err := view.Diagnostics(a.err, a.style(a.err), l.diags); err != nil {
		return l, err
	}
	if view.NewValidation(l.diags).ErrorCount > 0 {
		return l, silent(Invalid)
	}
	return l, nil
}

// check reads and checks the configuration and gives what is wrong.
func (a *App) check(s scope, dir string) (loaded, error) {
	for _, v := range s.vars {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return loaded{}, usagef("-var %s: write -var NAME=VALUE", v)
		}
	}
	for _, f := range s.varFiles {
		if _, err := os.Stat(f); err != nil {
			return loaded{}, usagef("-var-file: %v", err)
		}
	}
	cfg, diags := a.read(s, dir)
	return loaded{cfg: cfg, dir: dir, diags: located(dir, diags)}, nil
}

// read loads the configuration as the flags and the environment say.
func (a *App) read(s scope, dir string) (*configs.Config, diag.Diagnostics) {
	return configs.Load(configs.LoadOptions{Dir: dir, Env: s.env, EnvChosen: s.env != "", Vars: s.vars, VarFiles: s.varFiles,
		Environ: a.environ(), Names: environment[:], Version: version, Catalog: a.deps.Catalog()})
}

// environment are the KEYSTONE_ names that the command line reads itself.
var environment = [...]string{"KEYSTONE_SERVER", "KEYSTONE_USER"}

// maxSource bounds the files that source lines are taken from.
const maxSource = 4 << 20

// located gives the shown form of problems of a directory's files: with paths
// that lead there from the working directory, and the source lines.
func located(dir string, ds diag.Diagnostics) []api.Diagnostic {
	ds = ds.Sort()
	files := map[string][]byte{}
	for i := range ds {
		name := ds[i].Range.File
		if name == "" || strings.HasPrefix(name, "-") || strings.HasPrefix(name, "KEYSTONE_") {
			continue // a flag or an environment variable, not a file
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
			ds[i].Range.File = name
		}
		if _, seen := files[name]; seen {
			continue
		}
		files[name] = nil
		if st, err := os.Stat(name); err == nil && st.Mode().IsRegular() && st.Size() <= maxSource {
			files[name], _ = os.ReadFile(name) // without it, the place is shown without its line
		}
	}
	return api.NewDiagnostics(ds, files)
}

// dirArg gives the configuration's directory: the argument at i, else the current one.
func dirArg(args []string, i int) (string, error) {
	if i >= len(args) {
		return ".", nil
	}
	dir := args[i]
	switch st, err := os.Stat(dir); {
	case os.IsNotExist(err):
		return "", usagef("there is no directory %s", dir)
	case err != nil:
		return "", usagef("%v", err)
	case !st.IsDir():
		return "", usagef("%s is a file; name the directory that holds the configuration, such as %s", dir, filepath.Dir(dir))
	}
	return filepath.Clean(dir), nil
}

// between makes cobra's check of the number of arguments a usage error that
// names what is missing.
func between(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("an argument is missing: `%s` needs %s", cmd.CommandPath(), names)
		case len(args) > most:
			return usagef("%q is too much: `%s` takes %s", args[most], cmd.CommandPath(), names)
		}
		return nil
	}
}
