package api

import (
	"errors"
	"net/http"
)

// requestError is a request that cannot be understood.
type requestError struct{ cause error }

// Error gives the cause.
func (e *requestError) Error() string { return e.cause.Error() }

// Unwrap gives the cause.
func (e *requestError) Unwrap() error { return e.cause }

// errorBody is an error as it is sent: what kind it is, and what makes it again.
type errorBody struct {
	Kind    string   `json:"kind"` // stale, not_found, unsupported, request, internal
	Message string   `json:"message"`
	Planned int64    `json:"planned,omitempty"`
	Stored  int64    `json:"stored,omitempty"`
	Address string   `json:"address,omitempty"`
	Known   []string `json:"known,omitempty"`
}

func bodyOf(err error) *errorBody {
	b := &errorBody{Kind: "internal", Message: err.Error()}
	if e, ok := errors.AsType[*StaleError](err); ok {
		b.Kind, b.Planned, b.Stored = "stale", e.Planned, e.Stored
	} else if e, ok := errors.AsType[*NotFoundError](err); ok {
		b.Kind, b.Address, b.Known = "not_found", e.Addr, e.Known
	} else if _, ok := errors.AsType[*requestError](err); ok {
		b.Kind = "request"
	} else if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		b.Kind = "request"
	} else if errors.Is(err, ErrUnsupported) {
		b.Kind = "unsupported"
	}
	return b
}

func (b *errorBody) status() int {
	switch b.Kind {
	case "stale":
		return http.StatusConflict
	case "not_found":
		return http.StatusNotFound
	case "unsupported":
		return http.StatusNotImplemented
	case "request":
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// err gives the error that the server had.
func (b *errorBody) err() error {
	switch b.Kind {
	case "stale":
		return &StaleError{Planned: b.Planned, Stored: b.Stored}
	case "not_found":
		return &NotFoundError{Addr: b.Address, Known: b.Known}
	case "unsupported":
		return unsupported(b.Message)
	}
	return errors.New(b.Message)
}

// unsupported is ErrUnsupported with the server's words.
type unsupported string

// Error gives the words.
func (u unsupported) Error() string { return string(u) }

// Is tells that it is ErrUnsupported.
func (unsupported) Is(target error) bool { return target == ErrUnsupported }
