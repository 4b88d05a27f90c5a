package pipeline

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// PanicError is a panic of a source, a sink, a program or a store, caught.
type PanicError struct {
	During string
	Value  any
	Stack  []byte
}

// Error gives the value and the stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("panic during %s: %v\n%s", e.During, e.Value, e.Stack)
}

// guard calls f and turns its panic into an error.
func guard(during string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{During: during, Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

func isPanic(err error) bool {
	var p *PanicError
	return errors.As(err, &p)
}
