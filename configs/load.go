package configs

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty/function"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
)

// DefaultEnv is the environment when none is chosen.
const DefaultEnv = "default"

// LoadOptions says what to load and what it may see.
type LoadOptions struct {
	Dir       string
	Env       string   // "": KEYSTONE_ENV of Environ, else DefaultEnv
	EnvChosen bool     // the user chose Env: one that the files do not know is an error
	Vars      []string // NAME=VALUE of -var, in order
	VarFiles  []string // of -var-file, in order; relative to the working directory
	Environ   []string // NAME=VALUE, as os.Environ gives; nil: an empty environment
	Names     []string // further KEYSTONE_ names that the caller reads itself
	Version   string   // of Keystone, for required_version; "" checks nothing
	Catalog   Catalog
}

// loader holds what one Load has read so far.
type loader struct {
	opts      LoadOptions
	env       string
	environ   map[string]string
	files     map[string]*file
	tree      *tree
	vars      map[string]*variable
	locals    map[string]*local
	functions map[string]function.Function
	diags     diag.Diagnostics
	failed    map[addr.Addr]bool                  // blocks that are declared and could not be evaluated at all
	defaults  map[string]spec.Body                // evaluated blocks of defaults, by type and kind
	asWritten map[hclsyntax.Expression]spec.Value // read texts, maps of expressions and types
	hasSets   bool                                // some KEYSTONE_SET_ is set
	setUses   map[string]string                   // the option that each was used for
}

// Load reads, evaluates and checks the configuration in a directory for one
// environment. It reports all problems that it finds; the configuration is
// nil if one of them is an error. It neither writes nor connects to anything,
// and reads no secret.
func Load(opts LoadOptions) (*Config, diag.Diagnostics) {
	l := newLoader(opts)
	if !l.read() {
		return nil, dedupe(l.diags).Sort()
	}
	l.readVariables()
	meta := Meta{Dir: opts.Dir, Env: l.env, Settings: l.settings()}
	l.warnUnknownEnviron()
	resources := l.resources()
	meta.Moved, meta.Removed = l.movedAndRemoved()
	l.checkLocals()
	l.checkSetNames()
	if l.diags.HasErrors() {
		// What blocks mean together is still checked as far as they were
		// understood, so that one run shows as much as it can.
		_, more := fromResources(resources, meta, opts.Catalog, l.failed)
		l.diags.Append(more...)
		return nil, dedupe(l.diags).Sort()
	}
	c, diags := FromResources(resources, meta, opts.Catalog)
	l.diags.Append(diags...)
	if l.diags.HasErrors() {
		return nil, dedupe(l.diags).Sort()
	}
	c.Secrets = l.secrets()
	return c, dedupe(l.diags).Sort()
}

// LoadSecrets reads only the variables of the configuration, for a goal
// state that comes from the store: its secrets are resolved from them.
func LoadSecrets(opts LoadOptions) (*Secrets, diag.Diagnostics) {
	l := newLoader(opts)
	if !l.read() {
		return nil, dedupe(l.diags).Sort()
	}
	l.readVariables()
	return l.secrets(), dedupe(l.diags).Sort()
}

func newLoader(opts LoadOptions) *loader {
	l := &loader{opts: opts, env: opts.Env, environ: environMap(opts.Environ), files: map[string]*file{}, vars: map[string]*variable{}, locals: map[string]*local{}, failed: map[addr.Addr]bool{}, defaults: map[string]spec.Body{}, setUses: map[string]string{}, asWritten: map[hclsyntax.Expression]spec.Value{}}
	for name := range l.environ {
		l.hasSets = l.hasSets || strings.HasPrefix(name, setPrefix)
	}
	if l.env == "" {
		if l.env = l.environ["KEYSTONE_ENV"]; l.env != "" {
			l.opts.EnvChosen = true
		} else {
			l.env = DefaultEnv
		}
	}
	l.functions = l.functionTable()
	return l
}

func environMap(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok {
			m[name] = value
		}
	}
	return m
}

// read parses the files and sorts their blocks. It returns false when nothing
// further makes sense.
func (l *loader) read() bool {
	found, diags := ListFiles(l.opts.Dir)
	l.diags.Append(diags...)
	if diags.HasErrors() {
		return false
	}
	if !isEnvName(l.env) {
		l.diags.Addf(diag.Range{}, codeEnv, "Not an environment", "%q cannot name an environment: it begins with a letter a to z and goes on with a to z, 0 to 9, _ and -.", l.env)
		return false
	}
	if len(found.Base) == 0 {
		l.diags.Addf(diag.Range{}, codeFiles, "No configuration", "There is no file NAME%s in %s. `keystone init` writes a first one.", fileSuffix, l.opts.Dir)
		return false
	}
	known := found.Environments()
	if l.opts.EnvChosen && l.env != DefaultEnv && !slices.Contains(known, l.env) {
		l.diags.Addf(diag.Range{}, codeEnv, "Unknown environment", "Nothing in %s belongs to an environment %q: there is neither a file NAME.%s%s nor %s%s.%s", l.opts.Dir, l.env, l.env, fileSuffix, l.env, varsSuffix, diag.DidYouMean(l.env, append(known, DefaultEnv)))
		return false
	}
	var files []*file
	for _, name := range slices.Concat(found.Base, found.Overlays[l.env]) {
		f, diags := parse(l.opts.Dir, name)
		l.diags.Append(diags...)
		if f != nil {
			f.overlay = !slices.Contains(found.Base, name)
			l.files[name] = f
			files = append(files, f)
		}
	}
	// A file that does not parse hides blocks that others refer to: report
	// the syntax alone, not what follows from it.
	if l.diags.HasErrors() {
		return false
	}
	l.tree, diags = collect(files)
	l.diags.Append(diags...)
	return true
}

// path makes a path of the configuration absolute or relative to the working
// directory.
func (l *loader) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(l.opts.Dir, p)
}

// src gives the bytes of the file that a range is in.
func (l *loader) src(rng hcl.Range) []byte {
	if f := l.files[rng.Filename]; f != nil {
		return f.src
	}
	return nil
}

func (l *loader) warnUnknownEnviron() {
	known := append([]string{"KEYSTONE_ENV"}, l.opts.Names...)
	for name := range l.vars {
		known = append(known, varPrefix+name)
	}
	for _, name := range slices.Sorted(maps.Keys(l.environ)) {
		switch {
		case !strings.HasPrefix(name, "KEYSTONE_") || strings.HasPrefix(name, setPrefix) || slices.Contains(known, name):
		case strings.HasPrefix(name, varPrefix):
			l.diags.Warnf(diag.Range{}, codeEnviron, "Unknown environment variable", "%s is set, but there is no variable %q.%s", name, strings.TrimPrefix(name, varPrefix), diag.DidYouMean(name, known))
		default:
			l.diags.Warnf(diag.Range{}, codeEnviron, "Unknown environment variable", "%s is set, but Keystone reads no such name.%s Names that begin with KEYSTONE_ are reserved for it.", name, diag.DidYouMean(name, known))
		}
	}
}
