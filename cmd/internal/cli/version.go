package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
)

// version is set by the linker (see the Makefile); a plain `go build` says dev.
var version = "dev"

// Version is what this binary is.
func Version() api.Version {
	v := api.Version{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	return v
}

func (a *App) versionCommand() *command {
	var asJSON bool
	cmd := &command{
		Use:   "version [-json]",
		Short: "Print the version",
		Args:  between(0, 0, "no arguments"),
		RunE: func(*command, []string) error {
			v := Version()
			if asJSON {
				return view.JSON(a.out, v)
			}
			_, err := fmt.Fprintf(a.out, "Keystone %s\n%s on %s/%s\n", v.Version, v.Go, v.OS, v.Arch)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
