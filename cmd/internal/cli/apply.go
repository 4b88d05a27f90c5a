package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs"
	"keystone/reconcile"
)

type applyOptions struct {
	planOptions
	autoApprove bool
	why         string
}

func (a *App) applyCommand() *command {
	var o applyOptions
	cmd := &command{
		Use:   "apply [flags] [PLAN|DIR]",
		Short: "Bring the configuration about",
		Long: "Plans, asks, and makes the configuration the goal that the server keeps up. With the file of\n" +
			"keystone plan -out it carries out exactly that plan, without asking, and refuses it when the goal\n" +
			"has moved on since. Without a server the goal is stored, and keystone serve brings it about.",
		Args: between(0, 2, "at most a saved plan and a directory"),
		RunE: func(cmd *command, args []string) error {
			file, dir, err := planOrDir(args)
			if err != nil {
				return err
			}
			if file != "" {
				return a.applySaved(cmd.Context(), o, file)
			}
			return a.apply(cmd.Context(), o, dir)
		},
	}
	a.planFlags(&o.planOptions, cmd)
	cmd.Flags().BoolVar(&o.autoApprove, "auto-approve", false, "do not ask")
	cmd.Flags().StringVar(&o.why, "why", "", "the `REASON`, kept with the revision")
	return cmd
}

// planOrDir tells a saved plan from a directory.
func planOrDir(args []string) (file, dir string, err error) {
	if len(args) == 0 {
		return "", ".", nil
	}
	st, err := os.Stat(args[0])
	if err != nil {
		return "", "", usagef("%v", err)
	}
	if st.IsDir() {
		if len(args) > 1 {
			return "", "", usagef("a saved plan comes before the directory; %s is a directory", args[0])
		}
		dir, err = dirArg(args, 0)
		return "", dir, err
	}
	if len(args) > 1 {
		if _, err := dirArg(args, 1); err != nil {
			return "", "", err
		}
	}
	return args[0], "", nil
}

func (a *App) apply(ctx context.Context, o applyOptions, dir string) error {
	p, err := a.makePlan(ctx, o.planOptions, dir)
	if err != nil {
		return err
	}
	defer p.close()
	if !o.asJSON {
		if err := view.Plan(a.out, a.style(a.out), p.plan); err != nil {
			return err
		}
	}
	if len(p.plan.Changes) > 0 && !o.autoApprove {
		if o.asJSON {
			return usagef("apply -json cannot ask: add -auto-approve, or apply a saved plan")
		}
		question := "Do you want to perform these actions?"
		if o.destroy {
			question = "Do you really want to destroy all of this?"
		}
		if err := a.confirm(ctx, "apply", question, "yes", ", or save a plan with `keystone plan -out FILE` and apply that"); err != nil {
			return err
		}
	}
	return a.carryOut(ctx, o, p.control, p.cfg, api.ApplyOptions{PlanOptions: p.options, Serial: p.plan.Serial})
}

func (a *App) applySaved(ctx context.Context, o applyOptions, file string) error {
	if o.destroy || len(o.targets)+len(o.vars)+len(o.varFiles) > 0 || o.env != "" {
		return usagef("a saved plan holds its own choices: -env, -var, -var-file, -target and -destroy belong to keystone plan")
	}
	saved, err := readPlan(file)
	if err != nil {
		return err
	}
	goal, err := a.deps.Goals.Decode(saved.Goal)
	if err != nil {
		return usagef("%s: %v", file, err)
	}
	if missing := reconcile.Omitted(goal.Resources); len(missing) > 0 {
		return usagef("%s has no secrets, and the configuration writes some out: %s. Use env(\"NAME\"), file(\"PATH\") or a sensitive variable there and plan again, or apply the directory", file, strings.Join(missing, "; "))
	}
	control, closeIt, err := a.control(ctx, o.target, saved.Place.place())
	if err != nil {
		return err
	}
	defer closeIt()
	return a.carryOut(ctx, o, control, goal, api.ApplyOptions{PlanOptions: saved.Options, Serial: saved.Plan.Serial})
}

func (a *App) carryOut(ctx context.Context, o applyOptions, c api.Control, goal *configs.Config, ao api.ApplyOptions) error {
	ao.Who, ao.Why = a.who(), o.why
	style := a.style(a.out)
	res, err := c.Apply(ctx, goal, ao, func(e api.ApplyEvent) {
		if !o.asJSON {
			view.ApplyEvent(a.out, style, e)
		}
	})
	if err != nil {
		return err
	}
	if o.asJSON {
		err = view.JSON(a.out, res)
	} else {
		err = view.ApplyResult(a.out, style, res)
	}
	if err == nil && res.Failed > 0 {
		return silent(Failed)
	}
	return err
}

// confirm asks as Terraform does: only the word, such as "yes", is yes. Without
// a terminal it says to add -auto-approve, and what else helps.
func (a *App) confirm(ctx context.Context, command, question, word, without string) error {
	if f, ok := a.in.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return usagef("there is no terminal to ask on: add -auto-approve%s", without)
	}
	fmt.Fprintf(a.out, "\n%s\n  Only '%s' will be accepted to approve.\n\n  Enter a value: ", question, word)
	answer, err := readLine(ctx, a.in)
	if err != nil {
		return fmt.Errorf("%s %w", command, err)
	}
	if answer != word {
		return fmt.Errorf("%s cancelled", command)
	}
	fmt.Fprintln(a.out)
	return nil
}

// readLine reads one line, or gives up with ctx: an interrupt at the question.
func readLine(ctx context.Context, r io.Reader) (string, error) {
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() { // ends with the process when nobody answers
		text, err := bufio.NewReader(r).ReadString('\n')
		got <- answer{strings.TrimSpace(text), err}
	}()
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("cancelled")
	case g := <-got:
		if g.err != nil && g.text == "" {
			return "", fmt.Errorf("cancelled: %w", g.err)
		}
		return g.text, nil
	}
}
