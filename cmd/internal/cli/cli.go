// Package cli is the command line: one file per command. A command reads its
// flags, asks the composition root or a running server, and prints through
// view. Which exit code means what is in exit.go.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/cmd/internal/wire"
	"keystone/configs"
	"keystone/configs/diag"
)

type command = cobra.Command

// Deps is what the command line needs from the composition root.
type Deps struct {
	Catalog     func() configs.Catalog
	Codes       func() []diag.Code
	Goals       api.Codec
	Run         func(context.Context, wire.RunSpec) (wire.RunResult, error)
	Serve       func(context.Context, wire.ServeSpec) error
	OpenOffline func(context.Context, wire.OfflineSpec) (api.Backend, io.Closer, error)
}

// App is the command line of one process.
type App struct {
	deps    Deps
	root    *command
	getenv  func(string) string
	environ func() []string
	in      io.Reader
	out     io.Writer
	err     io.Writer
	noColor bool
}

// New builds the commands; it reads nothing.
func New(d Deps) *App {
	a := &App{deps: d, getenv: os.Getenv, environ: os.Environ, in: os.Stdin, out: os.Stdout, err: os.Stderr}
	a.root = a.newRoot()
	return a
}

// Main runs one command line and gives the process's exit code.
func (a *App) Main(ctx context.Context, args []string) Code {
	if len(args) > 0 && strings.HasPrefix(args[0], "__complete") {
		args = completed(args)
	} else {
		args = normalise(args, a.takesValue, a.isGroup)
	}
	a.root.SetArgs(args)
	cmd, err := a.root.ExecuteContextC(ctx)
	if err == nil {
		return Done
	}
	if e, ok := errors.AsType[*codeError](err); ok && e.cause == nil {
		return e.code
	}
	ds := []api.Diagnostic{{Severity: "error", Summary: sentence(err.Error())}}
	switch {
	case errors.Is(err, fs.ErrPermission):
		ds[0].Detail = fmt.Sprintf("This runs as %s: let this user write there, or run it as the user whose it is.", userName())
	case errors.Is(err, syscall.ENOSPC):
		ds[0].Detail = "The disk is full: free some space and run it again."
	case codeOf(err) == Invalid && cmd != nil:
		ds[0].Detail = fmt.Sprintf("For usage, run: %s -help", cmd.CommandPath())
	}
	_ = view.Diagnostics(a.err, a.style(a.err), ds) // nowhere left to say it
	return codeOf(err)
}

// userName names the user of this process.
func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// sentence begins with a capital letter, unless its first word is a name.
func sentence(s string) string {
	word, _, _ := strings.Cut(s, " ")
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyz") != "" || word == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func (a *App) newRoot() *command {
	root := &command{
		Use:           "keystone",
		Short:         "Move and process event streams",
		Long:          "Keystone moves every event from where it happens to where it is used.\nStreams, routes and sinks are declared in *.ks.hcl files.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          a.unknownCommand,
		RunE: func(cmd *command, _ []string) error {
			_ = cmd.Help() // prints to a stream; a command was asked for
			return silent(Invalid)
		},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&command{Use: "no-help", Hidden: true})
	root.PersistentFlags().BoolVar(&a.noColor, "no-color", false, "never use colours")
	root.PersistentFlags().BoolP("help", "h", false, "show what a command does and its flags")
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(usage)
	root.SetHelpFunc(help)
	root.AddCommand(a.initCommand(), a.fmtCommand(), a.validateCommand(), a.planCommand(), a.applyCommand(), a.serveCommand(),
		a.runCommand(), a.evalCommand(), a.tapCommand(), a.statusCommand(), a.pauseCommand(), a.resumeCommand(), a.drainCommand(), a.restartCommand(), a.rewindCommand(), a.auditCommand(), a.verifyCommand(), a.deadLettersCommand(), a.backfillCommand(), a.graphCommand(), a.docsCommand(), a.versionCommand(), a.completionCommand())
	return root
}

// unknownCommand refuses what is no command, and names the nearest.
func (a *App) unknownCommand(cmd *command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if args[0] == "help" {
		if sub, _, err := cmd.Root().Find(args[1:]); err == nil {
			_ = sub.Help() // prints to a stream
			return silent(Done)
		}
	}
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return usagef("there is no command %q.%s", args[0], diag.DidYouMean(args[0], names))
}

// flagError names the flag as it is written here, with one dash, and the nearest one.
func flagError(cmd *command, err error) error {
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		given := e.GetSpecifiedName()
		if given == "" {
			given = e.GetSpecifiedShortnames()
		}
		var names []string
		for _, f := range flagsOf(cmd) {
			names = append(names, "-"+f.Name)
		}
		return usagef("there is no flag -%s of %s.%s", given, cmd.CommandPath(), diag.DidYouMean("-"+given, names))
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return usagef("-%s %s: write %s", e.GetFlag().Name, e.GetValue(), valueOf(e.GetFlag()))
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return usagef("-%s needs a value: -%s %s", e.GetFlag().Name, e.GetFlag().Name, placeholder(e.GetFlag()))
	}
	return usagef("%s", strings.ReplaceAll(err.Error(), "--", "-"))
}

// valueOf says what a flag takes.
func valueOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "int", "int64":
		return "a whole number"
	}
	return placeholder(f)
}

// flagsOf lists the flags that a command knows, its parents' included.
func flagsOf(cmd *command) []*pflag.Flag {
	var out []*pflag.Flag
	seen := map[string]bool{}
	add := func(f *pflag.Flag) {
		if !f.Hidden && !seen[f.Name] {
			seen[f.Name] = true
			out = append(out, f)
		}
	}
	cmd.LocalFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	return out
}

func (a *App) takesValue(name string) (value, ok bool) {
	for _, c := range append(a.commands(), a.root) {
		for _, f := range flagsOf(c) {
			if f.Name == name {
				return f.NoOptDefVal == "", true
			}
		}
	}
	return false, false
}

// commands lists every command, those of groups after their group.
func (a *App) commands() []*command {
	var out []*command
	for _, c := range a.root.Commands() {
		out = append(append(out, c), c.Commands()...)
	}
	return out
}

// isGroup tells whether a command has commands of its own.
func (a *App) isGroup(name string) bool {
	for _, c := range a.root.Commands() {
		if c.Name() == name {
			return c.HasSubCommands()
		}
	}
	return false
}

func (a *App) style(w io.Writer) view.Style {
	c := view.Auto
	if a.noColor {
		c = view.Never
	}
	return view.StyleOf(w, c, a.getenv)
}

// logger writes what happens while a command runs to the error stream.
func (a *App) logger(debug bool) *slog.Logger {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
}
