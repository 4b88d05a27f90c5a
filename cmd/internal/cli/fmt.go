package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/hexops/gotextdiff"
	"github.com/hexops/gotextdiff/myers"
	"github.com/hexops/gotextdiff/span"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs"
)

// formatted are the names that fmt takes care of.
var formatted = [...]string{".ks.hcl", ".kstest.hcl", ".ksvars"}

type fmtOptions struct{ check, diff, recursive bool }

func (a *App) fmtCommand() *command {
	var o fmtOptions
	cmd := &command{
		Use:   "fmt [flags] [DIR|FILE|-]",
		Short: "Rewrite configuration files in the canonical form",
		Long:  "Rewrites *.ks.hcl, *.kstest.hcl and *.ksvars in the canonical form and lists the files that changed.\nWith - it reads one file on stdin and writes it to stdout.",
		Args:  between(0, 1, "at most one directory or file"),
		RunE: func(_ *command, args []string) error {
			target := "."
			if len(args) > 0 {
				target = args[0]
			}
			return a.format(target, o)
		},
	}
	cmd.Flags().BoolVar(&o.check, "check", false, "change nothing; fail if a file is not in the canonical form")
	cmd.Flags().BoolVar(&o.diff, "diff", false, "print the differences")
	cmd.Flags().BoolVar(&o.recursive, "recursive", false, "take the directories below as well")
	return cmd
}

func (a *App) format(target string, o fmtOptions) error {
	if target == "-" {
		return a.formatStdin(o)
	}
	files, err := formatFiles(target, o.recursive)
	if err != nil {
		return err
	}
	var problems []api.Diagnostic
	unformatted := 0
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		out, ds := configs.Format(f, src)
		if ds.HasErrors() {
			problems = append(problems, api.NewDiagnostics(ds.Sort(), map[string][]byte{f: src})...)
			continue
		}
		if bytes.Equal(src, out) {
			continue
		}
		unformatted++
		if err := a.formatted(f, src, out, o); err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return errors.Join(silent(Invalid), view.Diagnostics(a.err, a.style(a.err), problems))
	}
	if o.check && unformatted > 0 {
		return silent(Failed)
	}
	return nil
}

// formatted deals with one file that is not in the canonical form.
func (a *App) formatted(name string, src, out []byte, o fmtOptions) error {
	fmt.Fprintln(a.out, name)
	if o.diff {
		fmt.Fprint(a.out, unified(name, src, out))
	}
	if o.check {
		return nil
	}
	real, err := filepath.EvalSymlinks(name) // the file is replaced, not the link to it
	if err != nil {
		return err
	}
	return renameio.WriteFile(real, out, 0o644, renameio.WithExistingPermissions())
}

func unified(name string, src, out []byte) string {
	edits := myers.ComputeEdits(span.URIFromPath(name), string(src), string(out))
	return fmt.Sprint(gotextdiff.ToUnified("old/"+name, "new/"+name, string(src), edits))
}

// maxStdin bounds what fmt reads; files have the same bound.
const maxStdin = 4 << 20

func (a *App) formatStdin(o fmtOptions) error {
	const name = "<stdin>"
	src, err := io.ReadAll(io.LimitReader(a.in, maxStdin+1))
	if err != nil {
		return fmt.Errorf("read stdin: %w", err)
	}
	if len(src) > maxStdin {
		return usagef("stdin has more than 4 MiB: no configuration file may")
	}
	out, ds := configs.Format(name, src)
	if ds.HasErrors() {
		return errors.Join(silent(Invalid), view.Diagnostics(a.err, a.style(a.err), api.NewDiagnostics(ds.Sort(), map[string][]byte{name: src})))
	}
	same := bytes.Equal(src, out)
	switch {
	case o.diff && !same:
		_, err = io.WriteString(a.out, unified("stdin", src, out))
	case !o.diff && !o.check:
		_, err = a.out.Write(out)
	}
	if err == nil && o.check && !same {
		return silent(Failed)
	}
	return err
}

// formatFiles lists the files of a target: itself, or those in a directory.
func formatFiles(target string, recursive bool) ([]string, error) {
	st, err := os.Stat(target)
	if err != nil {
		return nil, usagef("%v", err)
	}
	if !st.IsDir() {
		if !isFormatted(target) {
			return nil, usagef("%s is not a configuration file: their names end in %s", target, strings.Join(formatted[:], ", "))
		}
		return []string{target}, nil
	}
	var files []string
	err = filepath.WalkDir(target, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != target && (!recursive || strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case !d.IsDir() && isFormatted(path):
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

func isFormatted(name string) bool {
	return slices.ContainsFunc(formatted[:], func(suffix string) bool { return strings.HasSuffix(name, suffix) })
}
