package reconcile

import (
	"fmt"
	"time"
)

// StaleError says that the stored goal moved on since a plan was made.
type StaleError struct{ Planned, Stored int64 }

// Error says what to do.
func (e *StaleError) Error() string {
	return fmt.Sprintf("the plan is stale: it was made against revision %d, and revision %d is stored now; run `keystone plan` again", e.Planned, e.Stored)
}

// OtherGoalError says that a plan or a store is of another environment or namespace.
type OtherGoalError struct {
	What      string // environment, namespace
	Got, Want string
}

// Error names both.
func (e *OtherGoalError) Error() string {
	return fmt.Sprintf("this is of the %s %q, and %q is wanted", e.What, e.Got, e.Want)
}

// HeldError says that another process serves the same directory.
type HeldError struct {
	Path  string
	PID   int // 0: not known
	Host  string
	Since time.Time
}

// Error names the holder and says what to do.
func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("another keystone serve holds %s; stop it first, or serve another directory or environment", e.Path)
	}
	return fmt.Sprintf("another keystone serve (pid %d on %s, since %s) holds %s; stop it first, or serve another directory or environment",
		e.PID, e.Host, e.Since.Local().Format("2006-01-02 15:04:05"), e.Path)
}
