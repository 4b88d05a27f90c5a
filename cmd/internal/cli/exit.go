package cli

import (
	"errors"
	"fmt"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/docs"
)

// Code is a process's exit code: one table for every command.
type Code int

// The exit codes.
const (
	Done        Code = 0 // done; with plan -detailed-exitcode: no differences
	Failed      Code = 1 // something failed while doing it
	Differences Code = 2 // plan -detailed-exitcode: there are differences
	Invalid     Code = 3 // the configuration, the flags or the arguments are wrong
)

// codeError is an error with its exit code. A nil cause says that everything
// to say was printed.
type codeError struct {
	code  Code
	cause error
}

// Error gives the cause.
func (e *codeError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.cause.Error()
}

// Unwrap gives the cause.
func (e *codeError) Unwrap() error { return e.cause }

// usagef is a mistake in flags or arguments.
func usagef(format string, args ...any) error {
	return &codeError{Invalid, fmt.Errorf(format, args...)}
}

// silent ends a command that has already printed why.
func silent(c Code) error { return &codeError{code: c} }

// codeOf gives the exit code of what a command returned.
func codeOf(err error) Code {
	if err == nil {
		return Done
	}
	if e, ok := errors.AsType[*codeError](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*api.NotFoundError](err); ok {
		return Invalid // the user named it
	}
	return Failed
}

// exits is the table for the reference.
func exits() []docs.Exit {
	return []docs.Exit{
		{Code: int(Done), Doc: "Done. With `plan -detailed-exitcode`: there are no differences."},
		{Code: int(Failed), Doc: "It failed while doing it. With `fmt -check`: a file is not in the canonical form. With `verify`: the route did not keep its guarantee."},
		{Code: int(Differences), Doc: "With `plan -detailed-exitcode`: there are differences."},
		{Code: int(Invalid), Doc: "The configuration, the flags or the arguments are wrong."},
	}
}
