package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/cmd/internal/wire"
	"keystone/configs"
	"keystone/configs/diag"
)

// target is which control plane a command talks to.
type target struct{ server string }

func (t *target) flags(f *pflag.FlagSet) {
	f.StringVar(&t.server, "server", "", "ask the server at `URL`, such as http://127.0.0.1:7070, instead of the directory's own (default KEYSTONE_SERVER)")
}

// serverURL is -server, else KEYSTONE_SERVER, else none.
func (a *App) serverURL(t target) string {
	if t.server != "" {
		return t.server
	}
	return a.getenv("KEYSTONE_SERVER")
}

// place is a directory and environment, whose state says where its server listens.
type place struct{ dir, env, stateDir string }

// placeOf is the place of a configuration.
func placeOf(dir string, cfg *configs.Config) place {
	return place{dir: dir, env: cfg.Env, stateDir: filepath.Dir(cfg.StateDirPath())}
}

// defaultStateDir is where state is when the configuration cannot say.
const defaultStateDir = ".keystone"

// findPlace is the place of a directory whose configuration may be broken:
// then its state is where it is by default. An environment that is not there is refused.
func (a *App) findPlace(s scope, dir string) (place, error) {
	cfg, diags := a.read(s, dir)
	if cfg != nil {
		return placeOf(dir, cfg), nil
	}
	for _, d := range diags {
		if d.Severity == diag.Error && d.Code == codeUnknownEnv {
			return place{}, errors.Join(silent(Invalid), view.Diagnostics(a.err, a.style(a.err), located(dir, diag.Diagnostics{d})))
		}
	}
	return place{dir: dir, env: a.environment(s), stateDir: filepath.Join(dir, defaultStateDir)}, nil
}

// codeUnknownEnv is the code of an environment that the directory does not have.
const codeUnknownEnv = "KS1011"

// connect gives the running server, or an error that wraps api.ErrNoServer.
func (a *App) connect(ctx context.Context, t target, p place) (*api.Client, error) {
	if url := a.serverURL(t); url != "" {
		c, err := api.NewClient(url, a.deps.Goals)
		if err != nil {
			return nil, usagef("-server: %v", err)
		}
		_, err = c.Version(ctx)
		return c, err
	}
	path, err := api.SocketPath(p.stateDir, p.env)
	if err != nil {
		return nil, err
	}
	c := api.NewUnixClient(path, a.deps.Goals)
	if _, err := c.Version(ctx); err != nil {
		if errors.Is(err, api.ErrNoServer) {
			err = noServer(p)
		}
		return nil, err
	}
	return c, nil
}

// noServer says what to do.
func noServer(p place) error {
	at := ""
	if p.dir != "." {
		at = " " + p.dir
	}
	env := ""
	if p.env != "default" {
		env = " -env " + p.env
	}
	return fmt.Errorf("%w for %s in the environment %q; start one with `keystone serve%s%s`, or name one with -server", api.ErrNoServer, absolute(p.dir), p.env, env, at)
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// control gives the running server or, without one, the stored state. close
// must be called.
func (a *App) control(ctx context.Context, t target, p place) (c api.Control, closeIt func(), err error) {
	client, err := a.connect(ctx, t, p)
	if err == nil {
		return client, client.Close, nil
	}
	if !errors.Is(err, api.ErrNoServer) || a.serverURL(t) != "" {
		return nil, nil, err
	}
	backend, closer, err := a.deps.OpenOffline(ctx, wire.OfflineSpec{Dir: p.dir, Env: p.env, StateDir: p.stateDir})
	if err != nil {
		return nil, nil, err
	}
	return api.Local{Backend: backend, Version: Version()}, func() { closer.Close() }, nil
}

// who names the user for the revision.
func (a *App) who() string {
	for _, name := range []string{"KEYSTONE_USER", "USER", "LOGNAME"} {
		if v := a.getenv(name); v != "" {
			return v
		}
	}
	return userName()
}
