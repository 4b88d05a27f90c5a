// Package doctest holds what the documentation shows to what the program
// does: blocks of HCL load, expressions have the values that stand beside
// them, links lead somewhere, and a promise names a test that exists.
package doctest

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/cli"
	"keystone/cmd/internal/wire"
)

// root is the folder of the module.
const root = "../../.."

// referenceDir is the part of the documentation that is generated.
const referenceDir = "docs/reference"

// page is one file of documentation, by its path from the root.
type page struct {
	name, text string
}

// block is a fenced block of a page.
type block struct {
	page  string
	line  int // of its first line of text
	words []string
	text  string
}

// is tells whether a word stands behind the fence.
func (b block) is(word string) bool {
	for _, w := range b.words {
		if w == word {
			return true
		}
	}
	return false
}

// pages reads the documentation: what is in the tree, and the reference as
// this program generates it.
func pages(t *testing.T) []page {
	t.Helper()
	out := []page{read(t, root, "README.md")}
	out = append(out, walk(t, root, "docs", referenceDir)...)
	examples, err := filepath.Glob(filepath.Join(root, "examples", "*", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range examples {
		out = append(out, read(t, root, path.Join("examples", filepath.Base(filepath.Dir(e)), "README.md")))
	}
	generated := t.TempDir()
	app := cli.New(cli.Deps{Catalog: wire.Catalog, Codes: wire.Codes, Goals: api.Codec{Encode: wire.EncodeGoal, Decode: wire.DecodeGoal},
		Run: wire.Run, Serve: wire.Serve, OpenOffline: wire.OpenOffline})
	if code := app.Main(context.Background(), []string{"docs", "-out", filepath.Join(generated, referenceDir)}); code != cli.Done {
		t.Fatalf("keystone docs: exit code %d", code)
	}
	reference := walk(t, generated, referenceDir, "")
	if len(reference) < 5 || len(examples) < 3 {
		t.Fatalf("only %d pages of the reference and %d examples", len(reference), len(examples))
	}
	return append(out, reference...)
}

// walk reads the pages of a folder, without those below skip.
func walk(t *testing.T, base, dir, skip string) (out []page) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(base, dir), func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(base, file)
		if err != nil {
			return err
		}
		switch name = filepath.ToSlash(name); {
		case d.IsDir() && name == skip:
			return fs.SkipDir
		case !d.IsDir() && path.Ext(name) == ".md":
			out = append(out, read(t, base, name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, base, name string) page {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(base, name))
	if err != nil {
		t.Fatal(err)
	}
	return page{name, string(b)}
}

// fence begins and ends a block; an indented one belongs to a list.
var fence = regexp.MustCompile("^( *)(```+)(.*)$")

// blocks gives the fenced blocks of a page, and the page without them.
func (p page) blocks(t *testing.T) (out []block, prose string) {
	t.Helper()
	var open *block
	var indent, marks string
	var rest strings.Builder
	for i, line := range strings.Split(p.text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open == nil && m != nil:
			indent, marks = m[1], m[2]
			open = &block{page: p.name, line: i + 2, words: strings.Fields(m[3])}
			line = ""
		case open != nil && m != nil && m[2] == marks && strings.TrimSpace(m[3]) == "":
			out = append(out, *open)
			open, line = nil, ""
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
			line = ""
		}
		rest.WriteString(line + "\n") // lines keep their numbers
	}
	if open != nil {
		t.Errorf("%s:%d: this block is never closed", p.name, open.line-1)
	}
	return out, rest.String()
}
