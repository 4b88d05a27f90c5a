package configs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"keystone/configs/diag"
)

const varPrefix = "KEYSTONE_VAR_"

// sensitive marks values that must not leave: they may only stand in secrets.
const sensitive = "sensitive"

// variable is one input variable with its value.
type variable struct {
	name      string
	block     *block
	typ       cty.Type
	defaults  *typeexpr.Defaults
	sensitive bool
	notNull   bool // nullable = false
	raw       cty.Value
	set       bool       // raw was given, by default or otherwise
	from      diag.Range // of what gave it
	value     cty.Value  // converted and marked; unknown if there is none
}

// variableAttrs are the options of a variable block.
var variableAttrs = []string{"type", "default", "description", "sensitive", "nullable"}

// readVariables declares the variables and gives them values, weakest layer first.
func (l *loader) readVariables() {
	for _, name := range slices.Sorted(maps.Keys(l.tree.variables)) {
		l.vars[name] = l.declare(name, l.tree.variables[name])
	}
	for name, v := range l.vars {
		if text, ok := l.environ[varPrefix+name]; ok {
			l.giveText(v, text, diag.Range{File: varPrefix + name})
		}
	}
	l.readVarFiles()
	for _, arg := range l.opts.Vars {
		name, text, ok := strings.Cut(arg, "=")
		rng := diag.Range{File: "-var " + name}
		v := l.vars[name]
		switch {
		case !ok:
			l.diags.Addf(rng, codeVarValue, "Not an assignment", "-var takes NAME=VALUE, not %q.", name)
		case v == nil:
			l.diags.Addf(rng, codeVarUnknown, "Unknown variable", "There is no variable %q.%s", name, diag.DidYouMean(name, l.varNames()))
		default:
			l.giveText(v, text, rng)
		}
	}
	for _, name := range l.varNames() {
		l.convert(l.vars[name])
	}
	for _, name := range l.varNames() {
		l.validate(l.vars[name])
	}
}

func (l *loader) varNames() []string { return slices.Sorted(maps.Keys(l.vars)) }

func (l *loader) declare(name string, b *block) *variable {
	v := &variable{name: name, block: b, typ: cty.DynamicPseudoType, value: cty.DynamicVal}
	for _, a := range sortedAttrs(b.body) {
		switch a.Name {
		case "type":
			typ, defaults, diags := typeexpr.TypeConstraintWithDefaults(a.Expr)
			l.diags.Append(fromHCL(diags, codeVariable)...)
			v.typ, v.defaults = typ, defaults
		case "default":
			v.raw, v.set, v.from = l.constant(a.Expr), true, toRange(a.Expr.Range())
		case "description":
			if x := l.constant(a.Expr); !x.Type().Equals(cty.String) {
				l.diags.Addf(toRange(a.Expr.Range()), codeVariable, "Wrong type of value", "The description of a variable is a string.")
			}
		case "sensitive", "nullable":
			x := l.constant(a.Expr)
			if x.IsNull() || !x.Type().Equals(cty.Bool) || !x.IsKnown() {
				l.diags.Addf(toRange(a.Expr.Range()), codeVariable, "Wrong type of value", "%s is true or false.", a.Name)
			} else if a.Name == "sensitive" {
				v.sensitive = x.True()
			} else {
				v.notNull = x.False()
			}
		default:
			l.diags.Addf(toRange(a.NameRange), codeVariable, "Unknown option", "A variable has no option %q.%s", a.Name, diag.DidYouMean(a.Name, append(variableAttrs, "validation")))
		}
	}
	for _, x := range b.body.Blocks {
		if x.Type != "validation" {
			l.diags.Addf(toRange(x.DefRange()), codeVariable, "Unknown nested block", "A variable has no block %q.%s", x.Type, diag.DidYouMean(x.Type, []string{"validation"}))
		}
	}
	return v
}

// constant evaluates an expression that refers to nothing.
func (l *loader) constant(expr hclsyntax.Expression) cty.Value {
	v, diags := expr.Value(nil)
	l.diags.Append(fromHCL(diags, codeEvaluate)...)
	return v
}

// giveText gives a value that is written outside of a file: as it is where
// the variable holds text, a number or a bool, else as an HCL value.
func (l *loader) giveText(v *variable, text string, rng diag.Range) {
	v.set, v.from = true, rng
	if v.typ.IsPrimitiveType() || v.typ == cty.DynamicPseudoType {
		v.raw = cty.StringVal(text)
		return
	}
	expr, diags := parseText(text, rng.File)
	if !diags.HasErrors() {
		var hclDiags hcl.Diagnostics
		v.raw, hclDiags = expr.Value(nil)
		diags = fromHCL(hclDiags, codeVarValue)
	}
	if diags.HasErrors() {
		v.raw = cty.DynamicVal
		if v.sensitive { // the text may show in what HCL says
			l.diags.Addf(rng, codeVarValue, "Not a value", "The value of the variable %q is not HCL; it must be %s.", v.name, v.typ.FriendlyName())
			return
		}
		l.diags.Append(diags...)
	}
}

// parseText parses one HCL expression that does not come from a file.
func parseText(text, name string) (hclsyntax.Expression, diag.Diagnostics) {
	if diags := guard([]byte(text), name); diags.HasErrors() {
		return nil, diags
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), name, hcl.InitialPos)
	return expr, fromHCL(diags, codeVarValue)
}

// readVarFiles reads keystone.ksvars, ENV.ksvars, *.auto.ksvars, then -var-file.
func (l *loader) readVarFiles() {
	found, _ := ListFiles(l.opts.Dir)
	var names []string
	for _, name := range []string{"keystone" + varsSuffix, l.env + varsSuffix} {
		if slices.Contains(found.Vars, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range found.Vars {
		if strings.HasSuffix(name, ".auto"+varsSuffix) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		f, diags := parse(l.opts.Dir, name)
		l.giveFile(f, diags)
	}
	for _, path := range l.opts.VarFiles {
		f, diags := parseAs(path, path)
		l.giveFile(f, diags)
	}
}

// giveFile gives the values of a file. Its text is never shown: which of its
// lines hold secrets is not known where it does not parse.
func (l *loader) giveFile(f *file, diags diag.Diagnostics) {
	defer l.hideFrom(len(l.diags))
	l.diags.Append(diags...)
	if f == nil || f.body == nil {
		return
	}
	l.files[f.name] = f
	for _, b := range f.body.Blocks {
		l.diags.Addf(toRange(b.DefRange()), codeVarUnknown, "Block among variables", "A file of variables has NAME = VALUE only.")
	}
	for _, a := range sortedAttrs(f.body) {
		v := l.vars[a.Name]
		if v == nil {
			l.diags.Warnf(toRange(a.NameRange), codeVarUnknown, "Unknown variable", "There is no variable %q.%s", a.Name, diag.DidYouMean(a.Name, l.varNames()))
			continue
		}
		v.raw, v.set, v.from = l.constant(a.Expr), true, toRange(a.Expr.Range())
	}
}

// convert brings the given value to the declared type.
func (l *loader) convert(v *variable) {
	if v.sensitive {
		defer l.hideFrom(len(l.diags))
	}
	rng := v.from
	if !v.set {
		v.value = cty.UnknownVal(v.typ)
		if v.sensitive {
			v.value = v.value.Mark(sensitive) // nothing but a secret may need it, and that is read by the worker
			return
		}
		l.diags.Addf(v.block.header, codeVarValue, "Variable without a value", "The variable %q has no default. Give it with -var %s=…, %s%s, or in %s%s.", v.name, v.name, varPrefix, v.name, l.env, varsSuffix)
		return
	}
	x := v.raw
	if v.defaults != nil && !x.IsNull() {
		x = v.defaults.Apply(x)
	}
	converted, err := convert.Convert(x, v.typ)
	switch {
	case err != nil:
		l.diags.Addf(rng, codeVarValue, "Wrong type of value", "The variable %q is %s: %s.", v.name, typeexpr.TypeString(v.typ), ctyError(err))
		converted = cty.UnknownVal(v.typ)
	case converted.IsNull() && v.notNull:
		l.diags.Addf(rng, codeVarValue, "Null value", "The variable %q is declared with nullable = false.", v.name)
		converted = cty.UnknownVal(v.typ)
	}
	if v.sensitive {
		converted = converted.Mark(sensitive)
	}
	v.value = converted
}

func (l *loader) hideFrom(from int) { l.diags.Hide(from) }

func ctyError(err error) string {
	if pe, ok := errors.AsType[cty.PathError](err); ok && len(pe.Path) > 0 {
		return pathText(pe.Path) + ": " + err.Error()
	}
	return err.Error()
}

func pathText(p cty.Path) string {
	var b strings.Builder
	for _, step := range p {
		switch s := step.(type) {
		case cty.GetAttrStep:
			b.WriteString("." + s.Name)
		case cty.IndexStep:
			if s.Key.Type() == cty.String {
				fmt.Fprintf(&b, "[%q]", s.Key.AsString())
			} else {
				fmt.Fprintf(&b, "[%s]", s.Key.AsBigFloat().Text('f', -1))
			}
		}
	}
	return strings.TrimPrefix(b.String(), ".")
}

// validate evaluates the variable's own conditions.
func (l *loader) validate(v *variable) {
	if v.sensitive {
		defer l.hideFrom(len(l.diags))
	}
	for _, b := range v.block.body.Blocks {
		if b.Type != "validation" {
			continue
		}
		condition, message := b.Body.Attributes["condition"], b.Body.Attributes["error_message"]
		if condition == nil || message == nil || len(b.Body.Attributes) != 2 || len(b.Body.Blocks) > 0 {
			l.diags.Addf(toRange(b.DefRange()), codeValidation, "Incomplete validation", "A validation has exactly two options, condition and error_message.")
			continue
		}
		if x, _ := v.value.Unmark(); !x.IsKnown() {
			continue
		}
		ok, evaluated := l.value(condition.Expr, nil)
		if !evaluated {
			continue
		}
		ok, _ = ok.Unmark()
		if ok.IsNull() || !ok.IsKnown() || !ok.Type().Equals(cty.Bool) {
			l.diags.Addf(toRange(condition.Expr.Range()), codeValidation, "Not a condition", "The condition of a validation is true or false.")
			continue
		}
		if ok.True() {
			continue
		}
		text := "The error message could not be evaluated."
		if m, evaluated := l.value(message.Expr, nil); evaluated {
			if m, marks := m.Unmark(); len(marks) == 0 && m.IsKnown() && !m.IsNull() && m.Type().Equals(cty.String) {
				text = m.AsString()
			} else if len(marks) > 0 {
				text = "The error message holds a sensitive value, so it is not shown."
			}
		}
		l.diags.Addf(v.from, codeValidation, "Invalid value of variable "+v.name, "%s (The condition is at %s.)", text, toRange(condition.Expr.Range()))
	}
}

// Secrets resolves references to secrets. Values are read when they are
// needed and never kept, but for those of sensitive variables.
type Secrets struct {
	Dir     string
	environ map[string]string
	vars    map[string]cty.Value
}

func (l *loader) secrets() *Secrets {
	s := &Secrets{Dir: l.opts.Dir, environ: l.environ, vars: map[string]cty.Value{}}
	for name, v := range l.vars {
		if x, _ := v.value.Unmark(); v.sensitive && x.IsWhollyKnown() {
			s.vars[name] = x
		}
	}
	return s
}
