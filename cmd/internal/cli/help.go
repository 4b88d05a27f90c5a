package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"keystone/cmd/internal/docs"
)

// help prints what a command does; usage how it is written. Flags are shown
// with one dash, as Terraform's are; two work as well.
func help(cmd *command, _ []string) {
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n", strings.TrimSpace(text))
	_ = usage(cmd) // prints to a stream
}

func usage(cmd *command) error {
	w := cmd.OutOrStdout()
	line := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		line = cmd.CommandPath() + " COMMAND [flags] [arguments] [DIR]"
	}
	fmt.Fprintf(w, "Usage: %s\n", line)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprint(w, "\nCommands:\n")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				fmt.Fprintf(w, "  %-12s %s\n", c.Name(), c.Short)
			}
		}
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	if flags := flagsOf(cmd); len(flags) > 0 {
		fmt.Fprint(w, "\nFlags:\n")
		for _, f := range flags {
			name := "-" + f.Name
			if p := placeholder(f); p != "" {
				name += " " + p
			}
			fmt.Fprintf(w, "  %-22s %s\n", name, describe(f))
		}
	}
	return nil
}

// placeholder is the word for a flag's value: the first quoted one of its text.
func placeholder(f *pflag.Flag) string {
	if f.NoOptDefVal != "" {
		return ""
	}
	name, _ := pflag.UnquoteUsage(f)
	return name
}

func describe(f *pflag.Flag) string {
	_, text := pflag.UnquoteUsage(f)
	switch f.DefValue {
	case "", "false", "0", "[]":
	default:
		text += " (default " + f.DefValue + ")"
	}
	return text
}

func docFlag(f *pflag.Flag) docs.Flag {
	_, text := pflag.UnquoteUsage(f)
	d := docs.Flag{Name: f.Name, Value: placeholder(f), Doc: text}
	switch f.DefValue {
	case "", "false", "0", "[]":
	default:
		d.Default = f.DefValue
	}
	return d
}
