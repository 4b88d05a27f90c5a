package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"keystone/configs/diag"
)

// The suffixes of the files that make up a configuration.
const (
	fileSuffix = ".ks.hcl"
	testSuffix = ".kstest.hcl"
	varsSuffix = ".ksvars"
)

// maxFileBytes bounds every file that a configuration reads.
const maxFileBytes = 4 << 20

// file is one parsed file. Its name is relative to the configuration's
// directory, so that ranges mean the same on every machine.
type file struct {
	name    string
	src     []byte
	body    *hclsyntax.Body
	overlay bool
}

// Files lists the configuration's files in a directory by what they are for.
type Files struct {
	Base     []string            // main.ks.hcl
	Overlays map[string][]string // by environment: main.prod.ks.hcl
	Tests    []string            // plays.kstest.hcl
	Vars     []string            // keystone.ksvars, prod.ksvars, x.auto.ksvars
}

// All lists every file, sorted: what `keystone fmt` formats and `serve` watches.
func (f Files) All() []string {
	all := slices.Concat(f.Base, f.Tests, f.Vars)
	for _, names := range f.Overlays {
		all = append(all, names...)
	}
	slices.Sort(all)
	return all
}

// Environments lists the environments that have an overlay or variables of
// their own.
func (f Files) Environments() []string {
	var envs []string
	for env := range f.Overlays {
		envs = append(envs, env)
	}
	for _, name := range f.Vars {
		env := strings.TrimSuffix(name, varsSuffix)
		if env != "keystone" && !strings.HasSuffix(env, ".auto") {
			envs = append(envs, env)
		}
	}
	slices.Sort(envs)
	return slices.Compact(envs)
}

// ListFiles finds the configuration's files in a directory. Hidden files and
// folders are not part of it.
func ListFiles(dir string) (Files, diag.Diagnostics) {
	files := Files{Overlays: map[string][]string{}}
	var diags diag.Diagnostics
	entries, err := os.ReadDir(dir)
	if err != nil {
		detail := err.Error()
		if info, statErr := os.Stat(dir); statErr == nil && !info.IsDir() {
			detail = fmt.Sprintf("%s is a file. A configuration is a directory: give the directory that the file is in.", dir)
		} else if errors.Is(err, fs.ErrNotExist) {
			detail = fmt.Sprintf("There is no directory %s.", dir)
		}
		diags.Addf(diag.Range{}, codeFiles, "Cannot read the configuration", "%s", detail)
		return files, diags
	}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") {
			continue
		}
		switch {
		case strings.HasSuffix(name, testSuffix):
			files.Tests = append(files.Tests, name)
		case strings.HasSuffix(name, fileSuffix):
			stem, env, dotted := strings.Cut(strings.TrimSuffix(name, fileSuffix), ".")
			switch {
			case !dotted && stem != "":
				files.Base = append(files.Base, name)
			case stem == "" || !isEnvName(env):
				diags.Addf(diag.Range{File: name}, codeFileName, "File name with other dots", "%s is neither a file (NAME%s) nor an overlay of an environment (NAME.ENV%s). Rename it; an environment's name has a to z, 0 to 9, _ and -.", name, fileSuffix, fileSuffix)
			default:
				files.Overlays[env] = append(files.Overlays[env], name)
			}
		case strings.HasSuffix(name, varsSuffix):
			stem := strings.TrimSuffix(name, varsSuffix)
			if env, auto := strings.CutSuffix(stem, ".auto"); stem == "" || !auto && !isEnvName(env) {
				diags.Addf(diag.Range{File: name}, codeFileName, "File name with other dots", "%s is none of keystone%s, ENV%s and NAME.auto%s. Rename it.", name, varsSuffix, varsSuffix, varsSuffix)
				continue
			}
			files.Vars = append(files.Vars, name)
		}
	}
	return files, diags
}

func isEnvName(s string) bool {
	for i, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || i > 0 && (c == '_' || c == '-' || c >= '0' && c <= '9')) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// readBounded reads a regular file of at most maxFileBytes.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > maxFileBytes:
		return nil, fmt.Errorf("%s has %d bytes; a file of a configuration has at most %d (4 MiB)", path, info.Size(), maxFileBytes)
	}
	src, err := os.ReadFile(path)
	if err == nil && len(src) > maxFileBytes {
		err = fmt.Errorf("%s has more than %d bytes (4 MiB)", path, maxFileBytes)
	}
	return src, err
}

// parse reads one file; name is what ranges say.
func parse(dir, name string) (*file, diag.Diagnostics) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, name)
	}
	return parseAs(path, name)
}

func parseAs(path, name string) (*file, diag.Diagnostics) {
	src, err := readBounded(path)
	if err != nil {
		var diags diag.Diagnostics
		diags.Addf(diag.Range{File: name}, codeFiles, "Cannot read the file", "%v", err)
		return nil, diags
	}
	return parseSource(src, name)
}

func parseSource(src []byte, name string) (*file, diag.Diagnostics) {
	if diags := guard(src, name); diags.HasErrors() {
		return nil, diags
	}
	parsed, hclDiags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	f := &file{name: name, src: src}
	f.body, _ = parsed.Body.(*hclsyntax.Body)
	return f, fromHCL(hclDiags, codeSyntax)
}
