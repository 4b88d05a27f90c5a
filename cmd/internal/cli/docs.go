package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/docs"
	"keystone/configs"
	"keystone/configs/diag"
	"keystone/dsl/ir"
)

func (a *App) docsCommand() *command {
	var out string
	cmd := &command{
		Use:   "docs [flags] [NAME]",
		Short: "Print the reference",
		Long: "Prints what the reference says about a block, a kind of source or sink, a function, a command, a\n" +
			"metric, or a diagnostic's code; without a name, everything there is a page about. With -out it\n" +
			"writes every page as Markdown.",
		Example: "  keystone docs route\n  keystone docs KS2001\n  keystone docs -out docs/reference",
		Args:    between(0, 1, "at most one name"),
		RunE: func(_ *command, args []string) error {
			pages := docs.Pages(a.reference())
			if out != "" {
				return writePages(out, pages)
			}
			if len(args) == 0 {
				return a.listDocs(pages)
			}
			return a.showDocs(pages, args[0])
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write all pages into `DIRECTORY`")
	return cmd
}

func (a *App) listDocs(pages []docs.Page) error {
	for _, p := range pages {
		if len(p.Sections) == 0 {
			continue
		}
		names := make([]string, len(p.Sections))
		for i, s := range p.Sections {
			names[i] = s.Name
		}
		if _, err := fmt.Fprintf(a.out, "%s:\n  %s\n\n", p.Title, strings.Join(names, ", ")); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) showDocs(pages []docs.Page, name string) error {
	found := docs.Find(pages, name)
	if len(found) == 0 {
		return usagef("the reference has nothing named %q.%s", name, diag.DidYouMean(name, docs.Names(pages)))
	}
	for i, s := range found {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		if _, err := fmt.Fprint(a.out, s.Markdown()); err != nil {
			return err
		}
	}
	return nil
}

func writePages(dir string, pages []docs.Page) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range pages {
		if err := renameio.WriteFile(filepath.Join(dir, p.File), []byte(p.Markdown()), 0o644); err != nil {
			return fmt.Errorf("write the reference: %w", err)
		}
	}
	return nil
}

// reference gathers the declarations, this command line's own among them.
func (a *App) reference() docs.Input {
	in := docs.Input{Blocks: configs.Blocks(a.deps.Catalog()), Functions: ir.Functions(), Aggregates: ir.Aggregates(), Codes: a.deps.Codes(), Metrics: api.Metrics(), Exits: exits()}
	for _, c := range a.commands() {
		if c.Hidden || c.Name() == "no-help" {
			continue
		}
		doc := c.Long
		if doc == "" {
			doc = c.Short + "."
		}
		d := docs.Command{Name: c.CommandPath(), Use: c.UseLine(), Doc: doc, Example: c.Example}
		for _, f := range flagsOf(c) {
			if c.InheritedFlags().Lookup(f.Name) == nil {
				d.Flags = append(d.Flags, docFlag(f))
			}
		}
		in.Commands = append(in.Commands, d)
	}
	for _, f := range flagsOf(a.root) {
		in.Global = append(in.Global, docFlag(f))
	}
	return in
}
