package configs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/types"
)

// jobLinker makes the operators of one job of what its blocks say.
type jobLinker struct {
	d     *decoder
	decl  *jobDecl
	body  spec.Body
	diags *diag.Diagnostics
	ops   map[string]*Operator
	state map[string]linkState
	used  map[string]bool // operators of which some output is read
	path  []string        // of operators that are being linked
}

type linkState uint8

const (
	notLinked linkState = iota
	linking
	linked
	linkFailed // reported
)

// linkJob wires the operators of a job and checks each over the rows that come to it.
func (d *decoder) linkJob(decl *jobDecl, diags *diag.Diagnostics) {
	j := decl.job
	l := &jobLinker{d: d, decl: decl, body: d.bodies[j.Addr], diags: diags, ops: map[string]*Operator{}, state: map[string]linkState{}, used: map[string]bool{}}
	if !j.DeadLetter.Addr.IsZero() && d.hasEnd(j.DeadLetter, "stream or sink", diags) {
		j.LetterProgram = d.letterSink(j.DeadLetter, diags)
	}
	l.checkJob()
	names := slices.Sorted(maps.Keys(decl.ops))
	for _, name := range names {
		l.link(name)
	}
	l.checkEnds(names)
}

// checkJob reports what the declarations of the job's own options cannot express.
func (l *jobLinker) checkJob() {
	j := l.decl.job
	switch name, isSavepoint := strings.CutPrefix(j.Restore, "savepoint:"); {
	case isSavepoint && !isNamespace(strings.ReplaceAll(name, "_", "a")):
		l.diags.Addf(attrRange(l.body, "restore"), codeBlockValue, "Not a savepoint", "%q cannot name a savepoint: it begins with a letter a to z and goes on with a to z, 0 to 9, _ and -.", name)
	case !isSavepoint && j.Restore != "latest" && j.Restore != "fresh":
		l.diags.Addf(attrRange(l.body, "restore"), codeBlockValue, "Wrong value", "%q is neither \"latest\", \"fresh\" nor \"savepoint:NAME\".%s", j.Restore, diag.DidYouMean(j.Restore, []string{"latest", "fresh"}))
	}
	if a, ok := l.body.Attrs["dead_letter"]; ok && a.Value != nil && j.OnError != DeadLetter {
		l.diags.Addf(a.Range, codeBlockValue, "Option without a meaning", "on_error = %q makes no dead letters. Remove dead_letter, or write on_error = \"dead_letter\".", j.OnError)
	}
	if j.Parallelism > j.KeyGroups {
		l.diags.Addf(attrRange(l.body, "parallelism"), codeBlockValue, "Contradiction", "There are at most as many tasks as key_groups, here %d.", j.KeyGroups)
	}
}

// checkEnds reports operators that nothing reads, and jobs that read or write nothing.
func (l *jobLinker) checkEnds(names []string) {
	reads, writes := false, false
	for _, name := range names {
		kind, label, _ := strings.Cut(name, ".")
		reads, writes = reads || kind == "read", writes || kind == "write"
		if kind != "write" && !l.used[name] && l.state[name] == linked {
			way := "Read it by another one, write it, or remove it."
			if kind == "split" {
				way = "Read a branch of it: input = " + name + ".rest."
			}
			l.diags.Addf(l.header(name), codeOperator, "Unused operator", "Nothing reads %s %q: no operator has it as its input. %s", kind, label, way)
		}
	}
	rng := l.d.header(l.decl.job.Addr)
	if !reads {
		l.diags.Addf(rng, codeOperator, "Job that reads nothing", "A job has at least one block read \"NAME\" { from = stream.x }.")
	}
	if !writes {
		l.diags.Addf(rng, codeOperator, "Job that writes nothing", "A job has at least one block write \"NAME\" { input = …, to = stream.x }.")
	}
}

func (l *jobLinker) opBody(name string) spec.Body {
	kind, label, _ := strings.Cut(name, ".")
	return l.body.Blocks[kind].Blocks[label]
}

func (l *jobLinker) header(name string) diag.Range { return l.opBody(name).Range }

// at gives where an option of an operator is written, its header if it is not.
func (l *jobLinker) at(o *opDecl, option string) diag.Range {
	if a, ok := attrAt(l.opBody(o.name()), option); ok {
		return a.Range
	}
	return l.header(o.name())
}

// link links an operator after those that it reads. It gives nil where it is wrong, which was reported.
func (l *jobLinker) link(name string) *Operator {
	switch l.state[name] {
	case linked:
		return l.ops[name]
	case linking:
		l.cycle(name)
		return nil
	case linkFailed:
		return nil
	}
	l.state[name] = linking
	l.path = append(l.path, name)
	decl := l.decl.ops[name]
	o := &Operator{Kind: decl.kind, Label: decl.label, Range: l.header(name)}
	before := len(*l.diags)
	ok := l.inputs(o, decl)
	// An operator whose options were not understood is not looked at: its values are defaults.
	if ok = ok && !l.broken(name); ok {
		l.check(o, decl)
		ok = !(*l.diags)[before:].HasErrors()
	}
	l.path = l.path[:len(l.path)-1]
	if !ok {
		l.state[name] = linkFailed
		return nil
	}
	l.state[name], l.ops[name] = linked, o
	l.decl.job.Operators = append(l.decl.job.Operators, o)
	return o
}

// broken tells whether decoding reported an error within the operator.
func (l *jobLinker) broken(name string) bool {
	if !l.d.broken[l.decl.job.Addr] {
		return false
	}
	_, diags := decodeOperator(name, l.opBody(name))
	return diags.HasErrors() || hasInvalid(l.opBody(name))
}

// decodeOperator decodes one operator by itself.
func decodeOperator(name string, body spec.Body) (*opDecl, diag.Diagnostics) {
	kind, label, _ := strings.Cut(name, ".")
	i := slices.IndexFunc(operatorKinds, func(k operatorKind) bool { return k.name == kind })
	o := &opDecl{kind: kind, label: label, branches: map[string]*opDecl{}}
	return o, spec.Decode(operatorKinds[i].options(o), body)
}

// hasInvalid tells whether a value could not be evaluated.
func hasInvalid(b spec.Body) bool {
	for _, a := range b.Attrs {
		if a.Value == spec.Value(spec.Invalid{}) {
			return true
		}
	}
	for _, x := range b.Blocks {
		if hasInvalid(x) {
			return true
		}
	}
	return false
}

// cycle reports an operator that needs its own rows.
func (l *jobLinker) cycle(name string) {
	way := append(slices.Clone(l.path[slices.Index(l.path, name):]), name)
	slices.Reverse(way) // as rows flow
	l.diags.Addf(l.header(name), codeCycle, "Operators in a circle", "Rows would come round again for ever: %s.", strings.Join(way, " → "))
}

// ports gives the references of an operator, in the order of its inputs.
func (o *opDecl) ports() []spec.Port {
	switch o.kind {
	case "read":
		return nil
	case "join":
		return []spec.Port{o.left, o.right}
	case "union":
		return o.inputs
	}
	return []spec.Port{o.input}
}

// inputs resolves what an operator reads; it tells whether all of it is known.
func (l *jobLinker) inputs(o *Operator, decl *opDecl) bool {
	ok := true
	for _, p := range decl.ports() {
		if p.Operator == "" {
			ok = false // missing or wrong, which decoding has reported
			continue
		}
		from, known := l.decl.ops[p.Operator]
		if !known {
			l.diags.Addf(p.Range, codeReference, "Unknown operator", "The job has no operator %s.%s", p.Operator, l.nearOperator(p.Operator))
			ok = false
			continue
		}
		l.used[p.Operator] = true
		if from.kind == "write" {
			l.diags.Addf(p.Range, codeReference, "Operator without rows", "%s writes, and gives nothing on. Read what it reads.", p.Operator)
			ok = false
			continue
		}
		in := l.link(p.Operator)
		if in == nil {
			ok = false
			continue
		}
		if !l.port(in, p) {
			ok = false
			continue
		}
		o.Inputs = append(o.Inputs, OperatorInput{From: in, Port: p.Output, Range: p.Range})
	}
	return ok
}

// nearOperator suggests what an unknown reference may mean.
func (l *jobLinker) nearOperator(name string) string {
	names := slices.Sorted(maps.Keys(l.decl.ops))
	_, label, _ := strings.Cut(name, ".")
	for _, n := range names {
		if _, other, _ := strings.Cut(n, "."); other == label {
			return fmt.Sprintf(" There is %s.", n)
		}
	}
	if near := diag.DidYouMean(name, names); near != "" {
		return near
	}
	return " It has " + joinWords(names) + "."
}

// port checks that an operator has the output that is named.
func (l *jobLinker) port(in *Operator, p spec.Port) bool {
	ports := slices.Sorted(maps.Keys(in.Ports))
	if p.Output == "" {
		if in.Kind == "split" {
			l.diags.Addf(p.Range, codeReference, "Which branch?", "A split gives its rows to branches: write %s.", in.Name()+"."+strings.Join(ports, " or "+in.Name()+"."))
			return false
		}
		return true
	}
	if _, ok := in.Ports[p.Output]; ok {
		return true
	}
	detail := fmt.Sprintf("%s has no output %q.", in.Name(), p.Output)
	switch {
	case len(ports) > 0:
		detail += cmp.Or(diag.DidYouMean(p.Output, ports), " It has "+joinWords(ports)+".")
	case p.Output == "late":
		detail += " Only windows with an end have late rows."
	default:
		detail += " Its rows are " + in.Name() + "."
	}
	l.diags.Addf(p.OutputRange, codeReference, "Unknown output", "%s", detail)
	return false
}

// env is what the expressions of an operator may refer to.
func (l *jobLinker) env(t types.Type, meta bool) dsl.Env {
	return dsl.Env{Event: t, Consts: l.body.Consts, Jobs: true, NoMeta: !meta}
}

// linkJobs links every job, and reports jobs that read what they write.
func (d *decoder) linkJobs() {
	for _, a := range sorted(d.jobs) {
		decl := d.jobs[a]
		d.scope(a, d.header(a), func(diags *diag.Diagnostics) { d.linkJob(decl, diags) })
	}
}

// unbounded gives the first read, by name, of which the input of an operator does not end; nil if all end.
func (l *jobLinker) unbounded(o *Operator) *Operator {
	if o.Read != nil {
		if s := l.d.c.Sources[o.Read.From.Addr]; s != nil && s.Config.Bounded() {
			return nil
		}
		return o
	}
	for _, in := range o.Inputs {
		if r := l.unbounded(in.From); r != nil {
			return r
		}
	}
	return nil
}
