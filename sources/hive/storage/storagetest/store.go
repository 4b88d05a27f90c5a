package storagetest

import (
	"context"
	"io"
	"iter"

	"keystone/sources/hive/storage"
)

// Store lets another fail and crash: each of its methods is one operation.
type Store struct {
	gate
	to storage.Store
}

// NewStore makes one. It never closes the other.
func NewStore(to storage.Store, hook Hook) *Store { return &Store{gate: gate{hook: hook}, to: to} }

func (s *Store) do(kind, name string, op func() error) error {
	do, _, err := s.pass(kind, name)
	if do {
		if err2 := op(); err == nil {
			err = err2
		}
	}
	return err
}

// String is the other's.
func (s *Store) String() string { return s.to.String() }

// Create is an operation.
func (s *Store) Create(ctx context.Context, name string, data []byte) error {
	return s.do("create", name, func() error { return s.to.Create(ctx, name, data) })
}

// Confirm is an operation.
func (s *Store) Confirm(ctx context.Context, name string) error {
	return s.do("confirm", name, func() error { return s.to.Confirm(ctx, name) })
}

// Upload is an operation.
func (s *Store) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	return s.do("upload", name, func() error { return s.to.Upload(ctx, name, r, size) })
}

// Publish is an operation.
func (s *Store) Publish(ctx context.Context, from, to string) error {
	return s.do("publish", to, func() error { return s.to.Publish(ctx, from, to) })
}

// Get is an operation.
func (s *Store) Get(ctx context.Context, name string) (b []byte, err error) {
	err = s.do("get", name, func() (err error) { b, err = s.to.Get(ctx, name); return err })
	return b, err
}

// Open is an operation.
func (s *Store) Open(ctx context.Context, name string) (o storage.Object, err error) {
	err = s.do("open", name, func() (err error) { o, err = s.to.Open(ctx, name); return err })
	return o, err
}

// Stat is an operation.
func (s *Store) Stat(ctx context.Context, name string) (i storage.Info, err error) {
	err = s.do("stat", name, func() (err error) { i, err = s.to.Stat(ctx, name); return err })
	return i, err
}

// Delete is an operation.
func (s *Store) Delete(ctx context.Context, name string) error {
	return s.do("delete", name, func() error { return s.to.Delete(ctx, name) })
}

// List is one operation, however much it gives.
func (s *Store) List(ctx context.Context, folder string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := s.do("list", folder, func() error { return nil }); err != nil {
			yield(storage.Info{}, err)
			return
		}
		s.to.List(ctx, folder)(yield)
	}
}

// Close does nothing.
func (s *Store) Close() error { return nil }
