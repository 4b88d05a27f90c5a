package configs_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
)

var update = flag.Bool("update", false, "rewrite golden files")

// caseOptions are read from the file load.json of a case, where there is one.
type caseOptions struct {
	Env       string
	EnvChosen bool
	Vars      []string
	VarFiles  []string
	Environ   []string
	Version   string
}

func load(t *testing.T, dir string) (*configs.Config, diag.Diagnostics) {
	t.Helper()
	var o caseOptions
	if b, err := os.ReadFile(filepath.Join(dir, "load.json")); err == nil {
		if err := json.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
	}
	for i, f := range o.VarFiles {
		o.VarFiles[i] = filepath.Join(dir, f)
	}
	return configs.Load(configs.LoadOptions{Dir: dir, Env: o.Env, EnvChosen: o.EnvChosen, Vars: o.Vars, VarFiles: o.VarFiles, Environ: o.Environ, Version: o.Version, Catalog: testCatalog()})
}

type expectation struct {
	severity diag.Severity
	text     string
	met      bool
}

var marker = regexp.MustCompile(`# (ERROR|WARNING): (.*)$`)

// expectations gives, by file and line, what the markers want. The file
// EXPECT has those without a place in a file, or at places that cannot hold a
// comment: FILE or FILE:LINE, then the marker.
func expectations(t *testing.T, dir string) map[string][]*expectation {
	t.Helper()
	out := map[string][]*expectation{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || !strings.HasSuffix(name, ".hcl") && !strings.HasSuffix(name, ".ksvars") && name != "EXPECT" {
			continue
		}
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(f)
		for n := 1; lines.Scan(); n++ {
			place := fmt.Sprintf("%s:%d", name, n)
			line := lines.Text()
			for {
				m := marker.FindStringSubmatchIndex(line)
				if m == nil {
					break
				}
				first := strings.Index(line, "# "+line[m[2]:m[3]])
				text := line[m[4]:m[5]]
				rest := ""
				if i := regexp.MustCompile(` # (ERROR|WARNING): `).FindStringIndex(text); i != nil {
					rest, text = text[i[0]:], text[:i[0]]
				}
				severity := diag.Error
				if line[m[2]:m[3]] == "WARNING" {
					severity = diag.Warning
				}
				if name == "EXPECT" {
					place = strings.TrimSpace(line[:first])
				}
				out[place] = append(out[place], &expectation{severity: severity, text: strings.TrimSpace(text)})
				line = rest
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestDiagnostics loads every case of testdata/bad: each diagnostic must be
// expected where it is, and each expectation met.
func TestDiagnostics(t *testing.T) {
	dirs, err := filepath.Glob("testdata/bad/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no cases", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			_, diags := load(t, dir)
			compareDiagnostics(t, expectations(t, dir), diags)
		})
	}
}

func compareDiagnostics(t *testing.T, want map[string][]*expectation, diags diag.Diagnostics) {
	t.Helper()
	codes := map[string]bool{}
	for _, c := range configs.Codes() {
		codes[c.Code] = true
	}
next:
	for _, d := range diags {
		if strings.HasPrefix(d.Code, "KS1") || strings.HasPrefix(d.Code, "KS3") {
			if !codes[d.Code] {
				t.Errorf("code %s is not documented: %v", d.Code, d)
			}
		}
		for _, place := range []string{fmt.Sprintf("%s:%d", d.Range.File, d.Range.Start.Line), d.Range.File} {
			for _, e := range want[place] {
				if !e.met && e.severity == d.Severity && strings.Contains(d.Summary+": "+d.Detail, e.text) {
					e.met = true
					continue next
				}
			}
		}
		t.Errorf("not expected: %s %v", d.Severity, d)
	}
	for place, list := range want {
		for _, e := range list {
			if !e.met {
				t.Errorf("%s: expected %s %q was not reported", place, e.severity, e.text)
			}
		}
	}
}

// TestGood loads every case of testdata/good: only marked warnings, and what
// was understood is the golden dump.
func TestGood(t *testing.T) {
	dirs, err := filepath.Glob("testdata/good/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no cases", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c, diags := load(t, dir)
			compareDiagnostics(t, expectations(t, dir), diags)
			if c == nil {
				t.Fatal("not loaded")
			}
			got := dump(c)
			golden := filepath.Join(dir, "want.txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("dump differs (-update rewrites it):\n%s", d)
			}
			roundTrip(t, c)
		})
	}
}

// dumpJob writes the operators of a job, inputs first, with the types of their rows.
func dumpJob(b *strings.Builder, j *configs.Job) {
	fmt.Fprintf(b, "%s: group %s\n", j.Addr, j.Group)
	for _, o := range j.Operators {
		fmt.Fprintf(b, "  %s", o.Name())
		for i, in := range o.Inputs {
			fmt.Fprintf(b, "%s%s", []string{" ← ", ", "}[min(i, 1)], in.From.Name())
			if in.Port != "" {
				b.WriteString("." + in.Port)
			}
		}
		fmt.Fprintf(b, "\n    %s", o.Output)
		if len(o.Identity) > 0 {
			fmt.Fprintf(b, " by %s", strings.Join(o.Identity, ", "))
		}
		if o.Updates {
			b.WriteString(", changing")
		}
		if o.Meta {
			b.WriteString(", records")
		}
		b.WriteByte('\n')
		for _, port := range slices.Sorted(maps.Keys(o.Ports)) {
			fmt.Fprintf(b, "    .%s %s\n", port, o.Ports[port])
		}
		if o.Write != nil {
			fmt.Fprintf(b, "    → %s %s", o.Write.To.Addr, o.Write.Changelog)
			if o.Write.Key != nil {
				fmt.Fprintf(b, " key %s", o.Write.Key.Text.S)
			}
			fmt.Fprintf(b, " %s\n", o.Write.Row)
		}
	}
}

// dump writes what is not default, and what was derived.
func dump(c *configs.Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "namespace %s, environment %s, state %s\n", c.Settings.Namespace, c.Env, filepath.ToSlash(strings.TrimPrefix(c.StateDirPath(), c.Dir)))
	for _, r := range c.Resources {
		fmt.Fprintf(&b, "%s %s\n", r.Addr, r.Kind)
		for _, path := range slices.Sorted(maps.Keys(r.Options)) {
			o := r.Options[path]
			if o.Layer == "default" && o.Range.IsZero() {
				continue
			}
			text := o.Canonical
			if o.Sensitive {
				text += " (sensitive)"
			}
			fmt.Fprintf(&b, "  %s = %s  # %s, %s, %s\n", path, text, o.Layer, o.Range, o.Effect)
		}
		if s := c.Streams[r.Addr]; s != nil {
			fmt.Fprintf(&b, "  → topic %s on %s\n", s.Topic, s.Cluster)
		}
		if x := c.Routes[r.Addr]; x != nil {
			fmt.Fprintf(&b, "  → group %s, dead letters %s\n", x.Group, c.DeadLetterTopic(r.Addr))
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(c.Jobs), addr.Compare) {
		dumpJob(&b, c.Jobs[a])
	}
	for _, m := range c.Moved {
		fmt.Fprintf(&b, "moved %s to %s\n", m.From, m.To)
	}
	for _, m := range c.Removed {
		fmt.Fprintf(&b, "removed %s, destroy %t\n", m.From, m.Destroy)
	}
	return b.String()
}

// roundTrip stores the resources as JSON and decodes them again: the same
// options must come out, and the same JSON.
func roundTrip(t *testing.T, c *configs.Config) {
	t.Helper()
	stored, err := json.Marshal(c.Resources)
	if err != nil {
		t.Fatal(err)
	}
	var rs []configs.Resource
	if err := json.Unmarshal(stored, &rs); err != nil {
		t.Fatal(err)
	}
	again, diags := configs.FromResources(rs, configs.Meta{Dir: c.Dir, Env: c.Env, Settings: c.Settings, Moved: c.Moved, Removed: c.Removed}, testCatalog())
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	if d := cmp.Diff(dump(c), dump(again)); d != "" {
		t.Errorf("decoding what was stored differs:\n%s", d)
	}
	for i := range c.Resources {
		if d := cmp.Diff(c.Resources[i].Options, again.Resources[i].Options); d != "" {
			t.Errorf("options of %s differ:\n%s", c.Resources[i].Addr, d)
		}
	}
	twice, err := json.Marshal(again.Resources)
	if err != nil {
		t.Fatal(err)
	}
	if string(stored) != string(twice) {
		t.Errorf("JSON differs:\n%s\n%s", stored, twice)
	}
}
