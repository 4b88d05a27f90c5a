package cli

import (
	"fmt"
	"io"

	"github.com/google/renameio/v2"

	"keystone/cmd/internal/graph"
)

type graphOptions struct {
	scope
	format, out string
}

func (a *App) graphCommand() *command {
	var o graphOptions
	cmd := &command{
		Use:     "graph [flags] [DIR]",
		Short:   "Draw how events flow",
		Long:    "Draws sources, streams, routes and sinks with what flows between them: as DOT for Graphviz, or as SVG.",
		Example: "  keystone graph -format svg -out flow.svg",
		Args:    between(0, 1, "at most one directory"),
		RunE: func(_ *command, args []string) error {
			dir, err := dirArg(args, 0)
			if err != nil {
				return err
			}
			return a.graph(o, dir)
		},
	}
	o.flags(cmd.Flags())
	cmd.Flags().StringVar(&o.format, "format", "dot", "`dot` or svg")
	cmd.Flags().StringVar(&o.out, "out", "", "write to `FILE` instead of stdout")
	return cmd
}

func (a *App) graph(o graphOptions, dir string) error {
	var draw func(io.Writer, graph.Graph) error
	switch o.format {
	case "dot":
		draw = graph.DOT
	case "svg":
		draw = graph.SVG
	default:
		return usagef("-format %s: it may be dot or svg", o.format)
	}
	l, err := a.load(o.scope, dir)
	if err != nil {
		return err
	}
	g := graph.Of(l.cfg)
	if o.out == "" {
		return draw(a.out, g)
	}
	f, err := renameio.NewPendingFile(o.out, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write %s: %w", o.out, err)
	}
	defer f.Cleanup() //nolint:errcheck // nothing is left after the replace
	if err := draw(f, g); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write %s: %w", o.out, err)
	}
	return nil
}
