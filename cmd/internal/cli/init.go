package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// smallest is the smallest configuration that does something.
const smallest = `source "generator" "plays" {
  rate = 1000
}

sink "stdout" "screen" {}

route "hello" {
  from    = source.plays
  filter  = "device.type == 'tv'"
  project = { user = "user_id", title = "title_id" }
  to      = sink.screen
}
`

func (a *App) initCommand() *command {
	return &command{
		Use:   "init [DIR]",
		Short: "Write a first configuration",
		Long:  "Writes main.ks.hcl with one source, one route and one sink into a directory\nthat has no configuration yet, and a .gitignore for Keystone's own state.",
		Args:  between(0, 1, "at most one directory"),
		RunE: func(_ *command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = filepath.Clean(args[0])
			}
			return a.initialise(dir)
		},
	}
}

func (a *App) initialise(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".ks.hcl") {
			return usagef("%s already has a configuration: %s", dir, e.Name())
		}
	}
	main := filepath.Join(dir, "main.ks.hcl")
	if err := writeNew(main, smallest); err != nil {
		return err
	}
	ignore := filepath.Join(dir, ".gitignore")
	if err := writeNew(ignore, ".keystone/\n"); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	at := ""
	if dir != "." {
		at = " " + dir
	}
	_, err = fmt.Fprintf(a.out, "Wrote %s.\n\nTry:\n  keystone run route.hello -limit 10%s\n  keystone serve%s\n", main, at, at)
	return err
}

// writeNew writes a file that must not be there yet.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
