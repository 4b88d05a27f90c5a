package configs

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"keystone/configs/spec"
)

// secret reads an expression in an option that is declared secret: env(),
// file() and sensitive variables stay references, in templates too. It
// returns nil for null.
func (l *loader) secret(o *spec.Option, expr hclsyntax.Expression, in *instance) spec.Value {
	from := len(l.diags)
	defer func() { l.diags.Hide(from) }()
	r := secretReader{l: l, in: in}
	ok := r.read(expr, 0)
	if !ok {
		return spec.Invalid{}
	}
	if r.null {
		return nil
	}
	if r.literal && o.Writable {
		for i, p := range r.parts {
			r.parts[i] = spec.SecretPart{Plain: p.Literal}
		}
	} else if r.literal {
		l.diags.Warnf(toRange(expr.Range()), codeLiteral, "Secret written in the file", "The value stands in the file for whoever reads that, and is not stored: without the files nothing can start with it, and a saved plan cannot be applied. Use env(\"NAME\"), file(\"PATH\") or a sensitive variable.")
	}
	return spec.Secret{Parts: r.parts, Range: toRange(expr.Range())}
}

type secretReader struct {
	l       *loader
	in      *instance
	parts   []spec.SecretPart
	literal bool // all of it is written in the file or computed from what is
	null    bool
}

// maxSecretDepth bounds locals that refer to locals.
const maxSecretDepth = 100

func (r *secretReader) read(expr hclsyntax.Expression, depth int) bool {
	switch e := expr.(type) {
	case *hclsyntax.TemplateExpr:
		return r.template(e, depth)
	case *hclsyntax.TemplateWrapExpr:
		return r.read(e.Wrapped, depth)
	case *hclsyntax.ParenthesesExpr:
		return r.read(e.Expression, depth)
	case *hclsyntax.FunctionCallExpr:
		if e.Name == "env" || e.Name == "file" {
			return r.call(e)
		}
	case *hclsyntax.ScopeTraversalExpr:
		if done, ok := r.traversal(e, depth); done {
			return ok
		}
	case *hclsyntax.ConditionalExpr:
		cond, ok := r.l.value(e.Condition, r.in)
		if !ok {
			return false
		}
		if cond.IsMarked() || cond.IsNull() || !cond.IsKnown() || cond.Type() != cty.Bool {
			r.l.diags.Addf(toRange(e.Condition.Range()), codeSecretForm, "Secret that depends on a secret", "Which secret to use is decided at load, so the condition is true or false and not sensitive.")
			return false
		}
		if cond.True() {
			return r.read(e.TrueResult, depth)
		}
		return r.read(e.FalseResult, depth)
	}
	return r.computed(expr)
}

func (r *secretReader) template(e *hclsyntax.TemplateExpr, depth int) bool {
	if e.IsStringLiteral() {
		return r.computed(e)
	}
	references := false
	for _, part := range e.Parts {
		sub := secretReader{l: r.l, in: r.in}
		if !sub.read(part, depth) {
			return false
		}
		references = references || !sub.literal
		r.parts = append(r.parts, sub.parts...)
	}
	r.literal = !references
	return true
}

func (r *secretReader) call(e *hclsyntax.FunctionCallExpr) bool {
	if len(e.Args) != 1 {
		r.l.diags.Addf(toRange(e.Range()), codeSecretForm, "Wrong number of arguments", "%s takes one argument.", e.Name)
		return false
	}
	v, ok := r.l.value(e.Args[0], r.in)
	if !ok {
		return false
	}
	if v.IsMarked() || v.IsNull() || !v.IsKnown() || v.Type() != cty.String || v.AsString() == "" {
		r.l.diags.Addf(toRange(e.Args[0].Range()), codeSecretForm, "Not a name", "%s takes a string that is not empty and not sensitive.", e.Name)
		return false
	}
	part := spec.SecretPart{Env: v.AsString()}
	if e.Name == "file" {
		part = spec.SecretPart{File: v.AsString()}
	}
	r.parts = append(r.parts, part)
	return true
}

// traversal follows locals, and keeps sensitive variables as references.
func (r *secretReader) traversal(e *hclsyntax.ScopeTraversalExpr, depth int) (done, ok bool) {
	t := e.Traversal
	if len(t) < 2 {
		return false, false
	}
	name, isAttr := t[1].(hcl.TraverseAttr)
	if !isAttr {
		return false, false
	}
	switch t.RootName() {
	case "var":
		v := r.l.vars[name.Name]
		if v == nil || !v.sensitive {
			return false, false
		}
		path := name.Name
		for _, step := range t[2:] {
			a, isAttr := step.(hcl.TraverseAttr)
			if !isAttr {
				return false, false
			}
			path += "." + a.Name
		}
		if len(t) == 2 && v.set {
			if x, _ := v.value.Unmark(); x.IsNull() {
				r.null = true
				return true, true
			}
		}
		r.parts = append(r.parts, spec.SecretPart{Var: path})
		return true, true
	case "local":
		a := r.l.tree.locals[name.Name]
		if a == nil || len(t) > 2 {
			return false, false
		}
		r.l.localState(name.Name).used = true
		if depth >= maxSecretDepth {
			r.l.reportCycle(name.Name)
			return true, false
		}
		in := r.in
		r.in = nil
		ok := r.read(a.Expr, depth+1)
		r.in = in
		return true, ok
	}
	return false, false
}

// computed is anything else: a plain value, which is a literal.
func (r *secretReader) computed(expr hclsyntax.Expression) bool {
	rng := toRange(expr.Range())
	form := "A secret is env(), file(), a sensitive variable, or a template of them: the worker resolves it at start, so nothing can be computed from it here."
	if readsSecret(expr) {
		r.l.diags.Addf(rng, codeSecretForm, "Computed secret", "%s", form)
		return false
	}
	v, ok := r.l.value(expr, r.in)
	if !ok {
		return false
	}
	if v.ContainsMarked() {
		r.l.diags.Addf(rng, codeSecretForm, "Computed secret", "%s", form)
		return false
	}
	if v.IsNull() {
		r.null = true
		return true
	}
	if v.Type() == cty.Number || v.Type() == cty.Bool { // as a part of a template
		s, err := stringOf(v)
		if err == nil {
			r.parts, r.literal = append(r.parts, spec.SecretPart{Literal: s}), true
			return true
		}
	}
	if v.Type() != cty.String {
		r.l.diags.Addf(rng, codeSecretForm, "Wrong type of value", "A secret is text, such as env(\"PASSWORD\"); this is %s.", typeName(v))
		return false
	}
	r.literal = true
	if v.AsString() != "" {
		r.parts = append(r.parts, spec.SecretPart{Literal: v.AsString()})
	}
	return true
}

// readsSecret tells an expression that calls env or file.
func readsSecret(expr hclsyntax.Expression) bool {
	found := false
	_ = hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics {
		if call, ok := n.(*hclsyntax.FunctionCallExpr); ok && (call.Name == "env" || call.Name == "file") {
			found = true
		}
		return nil
	})
	return found
}

// Resolve gives the value of a secret: environment variables, files (without
// one final line break) and sensitive variables as they are now. Its error
// names what is missing, never a value.
func (s *Secrets) Resolve(secret spec.Secret) (string, error) {
	var b strings.Builder
	for _, p := range secret.Parts {
		v, err := s.part(p)
		if err != nil {
			return "", err
		}
		b.WriteString(v)
	}
	return b.String(), nil
}

func (s *Secrets) part(p spec.SecretPart) (string, error) {
	switch {
	case p.Env != "":
		v, ok := s.environ[p.Env]
		if !ok {
			return "", fmt.Errorf("the environment variable %s, which holds a secret, is not set", p.Env)
		}
		return v, nil
	case p.File != "":
		path := p.File
		if !filepath.IsAbs(path) {
			path = filepath.Join(s.Dir, path)
		}
		src, err := readBounded(path)
		if err != nil {
			return "", fmt.Errorf("the file of a secret: %w", err)
		}
		return strings.TrimSuffix(strings.TrimSuffix(string(src), "\n"), "\r"), nil
	case p.Var != "":
		return s.variable(p.Var)
	case p.Plain != "":
		return p.Plain, nil
	case p.Omitted != "":
		return "", fmt.Errorf("the secret is written out at %s, and what is written out is not stored: use env(\"NAME\"), file(\"PATH\") or a sensitive variable there, or let `keystone serve` read the files", p.Omitted)
	}
	return p.Literal, nil
}

func (s *Secrets) variable(path string) (string, error) {
	name, rest, _ := strings.Cut(path, ".")
	v, ok := s.vars[name]
	if !ok {
		return "", fmt.Errorf("the sensitive variable %q has no value; set %s%s", name, varPrefix, name)
	}
	for rest != "" {
		var attr string
		attr, rest, _ = strings.Cut(rest, ".")
		switch {
		case v.IsNull():
			return "", fmt.Errorf("the sensitive variable %s is null before .%s", path, attr)
		case v.Type().IsObjectType() && v.Type().HasAttribute(attr):
			v = v.GetAttr(attr)
		case v.Type().IsMapType() && v.HasIndex(cty.StringVal(attr)).True():
			v = v.Index(cty.StringVal(attr))
		default:
			return "", fmt.Errorf("the sensitive variable %s has no %q", path, attr)
		}
	}
	text, err := stringOf(v)
	if err != nil {
		return "", fmt.Errorf("the sensitive variable %s is no text", path)
	}
	return text, nil
}
