// Package examples runs every example as its reader would: each folder of
// examples/ has a test.txtar, a script of commands with what they must give.
// Expected files stand beside the configuration; -update rewrites them.
package examples

import (
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expected output of the examples")

const folder = "../../../examples"

func TestExamples(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "keystone"), "keystone/cmd/keystone")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	dirs, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	search, _, _ := strings.Cut(os.Getenv("KEYSTONE_TEST_ELASTICSEARCH"), ",")
	found := 0
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		found++
		t.Run(d.Name(), func(t *testing.T) {
			source, err := filepath.Abs(filepath.Join(folder, d.Name()))
			if err != nil {
				t.Fatal(err)
			}
			script := filepath.Join(source, "test.txtar")
			for _, needed := range []string{script, filepath.Join(source, "README.md")} {
				if _, err := os.Stat(needed); err != nil {
					t.Fatalf("every example has one: %v", err)
				}
			}
			testscript.Run(t, testscript.Params{
				Files: []string{script},
				Setup: func(e *testscript.Env) error {
					e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
					if search != "" { // indices of its own, in a cluster that others use, too
						e.Setenv("KEYSTONE_VAR_elasticsearch", search)
						e.Setenv("KEYSTONE_VAR_prefix", "example-"+strconv.FormatInt(time.Now().UnixNano(), 36))
					}
					return os.CopyFS(e.WorkDir, withoutState(source))
				},
				Condition: func(cond string) (bool, error) {
					if cond != "elasticsearch" {
						return false, fmt.Errorf("there is no condition %q", cond)
					}
					return search != "", nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"expect": func(ts *testscript.TestScript, neg bool, args []string) { expect(ts, neg, args, source) },
					"fetch":  func(ts *testscript.TestScript, neg bool, args []string) { fetch(ts, neg, args, search) },
				},
			})
		})
	}
	if found == 0 {
		t.Fatal("no examples found")
	}
}

// expect compares a file, or stdout, with one of the example's files.
func expect(ts *testscript.TestScript, neg bool, args []string, source string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: expect GOT WANT; GOT may be stdout")
	}
	got := ts.ReadFile(args[0])
	if *update {
		ts.Check(os.WriteFile(filepath.Join(source, args[1]), []byte(got), 0o644))
		return
	}
	if want := ts.ReadFile(args[1]); got != want {
		ts.Fatalf("%s differs from %s:\n--- got\n%s--- want\n%s", args[0], args[1], got, want)
	}
}

// fetch asks the server at base, and gives the answer as stdout.
func fetch(ts *testscript.TestScript, neg bool, args []string, base string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fetch METHOD PATH")
	}
	req, err := http.NewRequest(args[0], base+args[1], nil)
	ts.Check(err)
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	_, err = io.Copy(ts.Stdout(), res.Body)
	ts.Check(err)
	if res.StatusCode >= 300 {
		ts.Fatalf("%s %s: %s", args[0], args[1], res.Status)
	}
}

// withoutState is the example's folder without what an earlier run left in it.
func withoutState(dir string) fs.FS { return visible{os.DirFS(dir)} }

type visible struct{ fs.FS }

// ReadDir leaves out the state directory and outputs.
func (v visible) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(v.FS, name)
	out := all[:0]
	for _, e := range all {
		if e.Name() != ".keystone" && e.Name() != "out" && e.Name() != "test.txtar" {
			out = append(out, e)
		}
	}
	return out, err
}
