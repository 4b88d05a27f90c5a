// Package storage keeps the objects of a warehouse: data files, and the manifests
// that say which of them count. A place is a folder of the local disk or a part of
// an object store; the commit protocol of a Hive sink needs of both what Store has.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// Store is a place that has objects by name. Names are relative, with slashes, and never lead out of
// the place. All methods may be called from several goroutines at once. An error
// other than ErrExists, ErrNotExist and *NameError leaves open whether the call took effect.
type Store interface {
	// String names the place for people. It holds no secret.
	String() string
	// Create makes a small object if there is none of that name, whole and durable or not at
	// all: of several callers, also in other processes, one succeeds and the others get ErrExists.
	Create(ctx context.Context, name string, data []byte) error
	// Confirm makes an object durable that was seen: who made it may have died, or failed, before it was.
	Confirm(ctx context.Context, name string) error
	// Upload makes an object or replaces it, whole and durable or not at all. size is what r gives.
	Upload(ctx context.Context, name string, r io.Reader, size int64) error
	// Publish makes the object from, which stays, visible under another name too, whole and durable. It does
	// nothing where to is there already with that size, and also where from is gone since then.
	// Where neither is there it gives ErrNotExist.
	Publish(ctx context.Context, from, to string) error
	// Get gives a small object.
	Get(ctx context.Context, name string) ([]byte, error)
	// Open reads an object piece by piece.
	Open(ctx context.Context, name string) (Object, error)
	// Stat tells of an object without reading it.
	Stat(ctx context.Context, name string) (Info, error)
	// List gives the objects whose name begins with a folder ("a/b/"; "" is all), in the order of the
	// bytes of their names. It ends after an error. What is made or deleted meanwhile may be missing or not.
	List(ctx context.Context, folder string) iter.Seq2[Info, error]
	// Delete takes an object away; that there is none is no error. It need not survive a loss of power.
	Delete(ctx context.Context, name string) error
	// Close frees what the store holds.
	Close() error
}

// Appender is a Store whose objects can grow before anybody is told of them, so that nothing has to
// be kept elsewhere until it is complete.
type Appender interface {
	Store
	// WriteAt writes a part of an object, which it makes where off is 0. It may be repeated.
	WriteAt(ctx context.Context, name string, data []byte, off int64) error
	// Sync makes durable what was written, and the name.
	Sync(ctx context.Context, name string) error
}

// Object is an open object.
type Object interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Info is what is known of an object.
type Info struct {
	Name    string
	Size    int64
	ModTime time.Time // by the clock of who keeps it
}

// The errors that are answers.
var (
	ErrExists   = errors.New("an object of that name exists")
	ErrNotExist = errors.New("there is no such object")
)

// NameError is a name that leads out of the place or that no place can have.
type NameError struct{ Name, Why string }

// Error names it and says why.
func (e *NameError) Error() string { return fmt.Sprintf("the name %.200q %s", e.Name, e.Why) }

const (
	nameMax = 1000 // object stores take 1024 bytes, with the place's own path
	partMax = 255  // file systems take that much between two slashes
)

// checkName refuses names that do not stay below the place or cannot be had by every place.
func checkName(name string) error {
	if len(name) > nameMax {
		return &NameError{name, fmt.Sprintf("is %d bytes long, at most %d can be stored", len(name), nameMax)}
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "":
			return &NameError{name, "has an empty part"}
		case part == "." || part == "..":
			return &NameError{name, "would lead elsewhere"}
		case len(part) > partMax:
			return &NameError{name, fmt.Sprintf("has a part that is longer than %d bytes", partMax)}
		case strings.ContainsAny(part, "\x00\\"):
			return &NameError{name, "has a zero byte or a backslash"}
		}
	}
	return nil
}
