package view

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/cmd/internal/api"
	"keystone/reconcile"
)

// symbol is how Terraform marks an action.
func (s Style) symbol(action string) string {
	switch reconcile.Action(action) {
	case reconcile.Create:
		return "  " + s.paint("+", green)
	case reconcile.Update, reconcile.Drain:
		return "  " + s.paint("~", yellow)
	case reconcile.Replace:
		return s.paint("-", red) + "/" + s.paint("+", green)
	case reconcile.Delete:
		return "  " + s.paint("-", red)
	case reconcile.Forget:
		return "  " + s.paint(".", dim)
	case reconcile.Move:
		return "  " + s.paint(">", cyan)
	case reconcile.Repair:
		return "  " + s.paint("!", yellow)
	}
	return "   "
}

var legend = []struct {
	actions []reconcile.Action
	text    string
}{
	{[]reconcile.Action{reconcile.Create}, "create"},
	{[]reconcile.Action{reconcile.Update, reconcile.Drain}, "update in-place"},
	{[]reconcile.Action{reconcile.Replace}, "destroy and then create replacement"},
	{[]reconcile.Action{reconcile.Delete}, "destroy"},
	{[]reconcile.Action{reconcile.Move}, "move"},
	{[]reconcile.Action{reconcile.Repair}, "repair"},
	{[]reconcile.Action{reconcile.Forget}, "forget, destroying nothing"},
}

// will says in words what happens to an address.
func will(c api.Change) string {
	switch reconcile.Action(c.Action) {
	case reconcile.Create:
		return "will be created"
	case reconcile.Update:
		return "will be updated in-place (live)"
	case reconcile.Drain:
		return "will be updated in-place (drain)"
	case reconcile.Replace:
		return "must be replaced"
	case reconcile.Delete:
		return "will be destroyed"
	case reconcile.Forget:
		return "will be forgotten; nothing is destroyed"
	case reconcile.Move:
		return "has moved from " + c.MovedFrom
	case reconcile.Repair:
		return "will be repaired"
	}
	return "will be " + c.Action
}

// Plan prints a plan as Terraform does, with the effect on data under each change.
func Plan(w io.Writer, s Style, p api.Plan) error {
	var b strings.Builder
	if p.Offline {
		with := "with the stored revision " + strconv.FormatInt(p.Serial, 10) + ", not with the running world"
		if p.Serial == 0 {
			with = "with nothing, since nothing is stored yet"
		}
		b.WriteString(s.paint("Note:", bold, yellow) + " no server runs for this configuration; this compares " + with + ".\n\n")
	}
	if len(p.Changes) == 0 {
		b.WriteString(s.paint("No changes.", bold, green) + " " + s.paint("What is declared is what "+runs(p.Offline)+".", bold) + "\n")
	} else {
		b.WriteString("Keystone will perform the following actions. They are marked with these symbols:\n")
		for _, l := range legend {
			if slices.ContainsFunc(p.Changes, func(c api.Change) bool { return slices.Contains(l.actions, reconcile.Action(c.Action)) }) {
				b.WriteString(s.symbol(string(l.actions[0])) + " " + l.text + "\n")
			}
		}
		b.WriteByte('\n')
		for _, c := range p.Changes {
			change(&b, s, c)
		}
		b.WriteString(s.paint("Plan:", bold) + " " + counts(p.Counts) + ".\n")
	}
	for _, text := range p.Warnings {
		b.WriteString("\n" + s.paint("Warning: ", yellow, bold) + printable(text) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func runs(offline bool) string {
	if offline {
		return "is stored"
	}
	return "runs"
}

// counts is Terraform's, with what it does not have only where there is some.
func counts(c api.Counts) string {
	text := fmt.Sprintf("%d to add, %d to change, %d to destroy", c.Add, c.Change, c.Destroy)
	for _, x := range []struct {
		n    int
		word string
	}{{c.Move, "move"}, {c.Repair, "repair"}, {c.Forget, "forget"}} {
		if x.n > 0 {
			text += fmt.Sprintf(", %d to %s", x.n, x.word)
		}
	}
	return text
}

func change(b *strings.Builder, s Style, c api.Change) {
	b.WriteString("  " + s.paint("# "+printable(c.Addr)+" "+printable(will(c)), bold))
	if c.Destructive {
		b.WriteString(s.paint(" (loses data or kept state)", red))
	}
	b.WriteByte('\n')
	for _, r := range c.Reasons {
		b.WriteString("  # (" + printable(r) + ")\n")
	}
	if c.Blocked != "" {
		b.WriteString("  " + s.paint("# cannot be applied: "+printable(c.Blocked), red) + "\n")
	}
	b.WriteString(s.symbol(c.Action) + " " + header(c) + " {\n")
	nameWidth := 0
	for _, o := range c.Options {
		nameWidth = max(nameWidth, columns(o.Name))
	}
	for _, o := range c.Options {
		option(b, s, c.Action, o, nameWidth)
	}
	for i, t := range c.Things {
		if i == 0 && len(c.Options) > 0 {
			b.WriteByte('\n')
		}
		thing(b, s, t)
	}
	if c.Impact != nil {
		if len(c.Options)+len(c.Things) > 0 {
			b.WriteByte('\n')
		}
		for _, text := range impact(*c.Impact) {
			b.WriteString("      " + s.paint("# "+printable(text), cyan) + "\n")
		}
	}
	b.WriteString("    }\n\n")
}

// thing is what a sink makes or changes outside.
func thing(b *strings.Builder, s Style, t api.Thing) {
	sign, note := s.paint("~", yellow), ""
	switch t.Action {
	case string(reconcile.Create):
		sign = s.paint("+", green)
	case string(reconcile.Update):
	case string(reconcile.NoOp):
		sign = " "
	default:
		sign, note = s.paint("?", dim), s.paint(" # made, or mended, unless it is as it should be", dim)
	}
	b.WriteString("      " + sign + " " + printable(t.Kind) + " " + strconv.Quote(printable(t.Name)) + note + "\n")
	for _, d := range t.Differs {
		b.WriteString("          " + printable(d) + "\n")
	}
	for _, n := range t.Notes {
		b.WriteString("          " + s.paint("# "+printable(n), yellow) + "\n")
	}
}

// header is the block as it stands in a file.
func header(c api.Change) string {
	typ, rest, _ := strings.Cut(c.Addr, ".")
	name, key, each := strings.Cut(rest, "[")
	h := typ
	if c.Kind != "" {
		h += " " + strconv.Quote(c.Kind)
	}
	h += " " + strconv.Quote(name)
	if each {
		h += " [" + key
	}
	return printable(h)
}

func option(b *strings.Builder, s Style, action string, o api.OptionChange, nameWidth int) {
	name := printable(o.Name) + strings.Repeat(" ", nameWidth-columns(o.Name))
	before, after := value(o.Before), value(o.After)
	sign, text := s.paint("~", yellow), before+" "+s.paint("->", yellow)+" "+after
	switch {
	case o.Before == "":
		sign, text = s.paint("+", green), after
	case o.After == "":
		sign, text = s.paint("-", red), before+" "+s.paint("-> null", dim)
	}
	b.WriteString("      " + sign + " " + name + " = " + text)
	if a := reconcile.Action(action); a != reconcile.Create && a != reconcile.Delete && o.Effect != "" {
		note := "# " + o.Effect
		if o.Effect == "replace" {
			note = s.paint("# forces replacement", red)
		}
		b.WriteString(" " + note)
	}
	b.WriteByte('\n')
}

// value shows one canonical value. Long ones are cut: the JSON form has all of it.
func value(v string) string {
	const most = 200
	v = strings.ReplaceAll(printable(v), "\n", `\n`)
	if r := []rune(v); len(r) > most {
		return string(r[:most]) + "…"
	}
	return v
}

// impact is what a change does to data, one statement a line.
func impact(i api.Impact) []string {
	var out []string
	if i.ContinuesFrom != "" {
		text := "continues from " + i.ContinuesFrom
		switch {
		case i.Waiting > 0:
			text += fmt.Sprintf("; %s %s", Count(i.Waiting), plural(i.Waiting, "record waits", "records wait"))
		case i.Waiting == 0:
			text += "; nothing waits"
		default:
			text += "; how many records wait is not known"
		}
		out = append(out, text)
	}
	switch {
	case i.MayRepeat > 0:
		out = append(out, note(fmt.Sprintf("may repeat up to %s %s", Count(i.MayRepeat), plural(i.MayRepeat, "record", "records")), i.RepeatNote))
	case i.MayRepeat < 0 && i.RepeatNote == "":
		out = append(out, "may repeat what is in flight")
	case i.RepeatNote != "":
		out = append(out, i.RepeatNote)
	case i.ContinuesFrom != "":
		out = append(out, "repeats nothing")
	}
	if i.PauseMs > 0 {
		out = append(out, "pauses for at most "+(time.Duration(i.PauseMs)*time.Millisecond).String())
	}
	if len(i.KeepsState) > 0 {
		out = append(out, "keeps "+strings.Join(i.KeepsState, ", "))
	}
	if len(i.LosesState) > 0 {
		out = append(out, "LOSES "+strings.Join(i.LosesState, ", "))
	}
	if i.DeadLetters != nil {
		out = append(out, "dead letters go to "+lettersPlace(*i.DeadLetters))
	}
	return out
}

// lettersPlace says where dead letters go.
func lettersPlace(l api.LettersPlace) string {
	switch {
	case l.Sink != "":
		return l.Sink
	case l.Topic == "":
		return "a file beside the server's state, made with the first one"
	case l.Managed:
		return "topic " + l.Topic + " on the cluster of " + l.Stream + ", made with the first one"
	}
	return l.Stream + ", topic " + l.Topic
}

func note(text, more string) string {
	if more == "" {
		return text
	}
	return text + " (" + more + ")"
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Count writes a number with thousands separated: 1,234,567.
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return sign + b.String()
}
