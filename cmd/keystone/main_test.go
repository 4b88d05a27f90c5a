package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keystone": main})
}

// TestScripts runs every command as a user does. Beside testscript's own
// commands there are:
//
//	exits CODE PROGRAM ARGS…   runs it and compares its exit code
//	serve NAME ARGS…           starts `keystone serve ARGS…`; returns when it answers
//	says NAME TEXT             waits until the server's log has the text
//	until TEXT PROGRAM ARGS…   runs it until its output has the text, then ends it
//	stop NAME [SIGNAL]         ends it, with SIGTERM unless said, and waits
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, "USER=tester", "TERM=xterm", "XDG_CACHE_HOME="+e.WorkDir)
			servers := &servers{byName: map[string]*server{}}
			e.Values[serversKey{}] = servers
			e.Defer(servers.stopAll)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "serve": serveCmd, "says": saysCmd, "until": untilCmd, "end": endCmd,
		},
	})
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

type serversKey struct{}

// servers are the `keystone serve` processes of one script.
type servers struct{ byName map[string]*server }

type server struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the log ends

	mu    sync.Mutex // guards log
	more  *sync.Cond // signalled when log grows or ends
	log   strings.Builder
	ended bool
}

func serveCmd(ts *testscript.TestScript, _ bool, args []string) {
	cmd := command(ts, "keystone", append([]string{"serve"}, args[1:]...))
	out, err := os.Create(ts.MkAbs(args[0] + ".stdout"))
	ts.Check(err)
	cmd.Stdout = out
	r, err := cmd.StderrPipe()
	ts.Check(err)
	s := start(ts, cmd, r)
	out.Close()
	ts.Value(serversKey{}).(*servers).byName[args[0]] = s
	if !s.wait("serving") {
		ts.Fatalf("the server does not answer:\n%s", s.text())
	}
}

// untilCmd runs a program that goes on, such as `status -watch`.
func untilCmd(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until TEXT PROGRAM ARGS…")
	}
	cmd := command(ts, args[1], args[2:])
	r, err := cmd.StdoutPipe()
	ts.Check(err)
	s := start(ts, cmd, r)
	seen := s.wait(args[0])
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	<-s.done
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() < 0 {
		err = nil // it was ending already, and no longer caught the signal
	}
	if err != nil || !seen {
		text := s.text()
		ts.Fatalf("%q seen: %t, ended with %v:\n…%s", args[0], seen, err, text[max(0, len(text)-8<<10):])
	}
}

func command(ts *testscript.TestScript, name string, args []string) *exec.Cmd {
	bin, err := lookIn(ts.Getenv("PATH"), name)
	ts.Check(err)
	cmd := exec.Command(bin, args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "PATH="+ts.Getenv("PATH"), "USER=tester")
	return cmd
}

// start runs the program and reads r to its end.
func start(ts *testscript.TestScript, cmd *exec.Cmd, r io.Reader) *server {
	ts.Check(cmd.Start())
	s := &server{cmd: cmd, done: make(chan struct{})}
	s.more = sync.NewCond(&s.mu)
	go s.read(r)
	return s
}

func lookIn(path, name string) (string, error) {
	for _, dir := range strings.Split(path, string(os.PathListSeparator)) {
		if st, err := os.Stat(dir + "/" + name); err == nil && !st.IsDir() {
			return dir + "/" + name, nil
		}
	}
	return "", fmt.Errorf("no %s in %s", name, path)
}

func (s *server) read(r io.Reader) {
	defer close(s.done)
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadString('\n')
		s.mu.Lock()
		s.log.WriteString(line)
		s.ended = err != nil
		s.more.Broadcast()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// patience bounds the wait for what never comes.
const patience = 2 * time.Minute

// wait returns when the log has the text: false if it ended without.
func (s *server) wait(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	gaveUp := false
	defer time.AfterFunc(patience, func() {
		s.mu.Lock()
		gaveUp = true
		s.more.Broadcast()
		s.mu.Unlock()
	}).Stop()
	for !strings.Contains(s.log.String(), text) {
		if s.ended || gaveUp {
			return false
		}
		s.more.Wait()
	}
	return true
}

func (s *server) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func saysCmd(ts *testscript.TestScript, neg bool, args []string) {
	s := find(ts, args[0])
	if neg {
		if strings.Contains(s.text(), args[1]) {
			ts.Fatalf("the server said %q:\n%s", args[1], s.text())
		}
		return
	}
	if !s.wait(args[1]) {
		ts.Fatalf("the server never said %q:\n%s", args[1], s.text())
	}
}

func endCmd(ts *testscript.TestScript, neg bool, args []string) {
	s := find(ts, args[0])
	signal := syscall.SIGTERM
	if len(args) > 1 && args[1] == "KILL" {
		signal = syscall.SIGKILL
	}
	ts.Check(s.cmd.Process.Signal(signal))
	<-s.done
	err := s.cmd.Wait()
	delete(ts.Value(serversKey{}).(*servers).byName, args[0])
	if signal == syscall.SIGTERM && (err != nil) != neg {
		ts.Fatalf("the server ended with %v:\n%s", err, s.text())
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".stderr"), []byte(s.text()), 0o644))
}

func find(ts *testscript.TestScript, name string) *server {
	s := ts.Value(serversKey{}).(*servers).byName[name]
	if s == nil {
		ts.Fatalf("no server %s runs", name)
	}
	return s
}

func (s *servers) stopAll() {
	for _, one := range s.byName {
		_ = one.cmd.Process.Kill() // it may have ended
		<-one.done
		_ = one.cmd.Wait() // killed
	}
}
