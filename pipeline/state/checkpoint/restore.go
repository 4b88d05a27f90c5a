package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"keystone/pipeline/state"
	"keystone/sources/hive/storage"
)

// ErrNone is a place without a checkpoint that can be used.
var ErrNone = errors.New("there is no checkpoint that can be restored")

// Restore makes a state directory, which must not exist, of a checkpoint: of the savepoint that is named, of the checkpoint with a number, or of the
// latest one where both are empty. A latest that is damaged is said so loudly, and the one before is taken; a place that
// cannot be read is an error. The state begins a new generation.
func Restore(ctx context.Context, place storage.Store, job, dir, savepoint string, number int64, log *slog.Logger) (*Manifest, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	all, damaged, err := List(ctx, place, job)
	if err != nil {
		return nil, fmt.Errorf("restore from %s: %w", place, err)
	}
	for _, err := range damaged {
		log.Error("a checkpoint cannot be used", "err", err)
	}
	generation := int64(0)
	var candidates []*Manifest
	for _, m := range all {
		generation = max(generation, m.Generation)
		switch {
		case savepoint != "" && m.Name == savepoint, savepoint == "" && m.Name == "" && (number == 0 || m.Number == number):
			candidates = append(candidates, m)
		}
	}
	failures := damaged
	for i := len(candidates) - 1; i >= 0; i-- {
		m := candidates[i]
		err := state.Adopt(dir, job, generation+1, func(folder string) error {
			for j := range m.Files {
				if err := fetch(ctx, place, &m.Files[j], folder); err != nil {
					return err
				}
			}
			return nil
		})
		var bad *DamagedError
		if errors.As(err, &bad) {
			log.Error("a checkpoint is damaged, and the one before it is used", "checkpoint", m.String(), "err", err)
			failures = append(failures, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("restore %s: %w", m, err)
		}
		return m, nil
	}
	what := place.String()
	if savepoint != "" {
		what = "savepoint " + savepoint + " in " + what
	} else if number != 0 {
		what = fmt.Sprintf("checkpoint %d in %s", number, what)
	}
	return nil, fmt.Errorf("restore %s: %w", what, errors.Join(append([]error{ErrNone}, failures...)...))
}

// fetch copies a file and checks it.
func fetch(ctx context.Context, place storage.Store, f *File, folder string) error {
	w, err := os.OpenFile(filepath.Join(folder, f.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	err = check(ctx, place, f, w)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

// check reads a file of a checkpoint, copies it to w and compares it with its manifest.
func check(ctx context.Context, place storage.Store, f *File, w io.Writer) error {
	name := place.String() + "/" + f.object()
	o, err := place.Open(ctx, f.object())
	if errors.Is(err, storage.ErrNotExist) {
		return &DamagedError{name, errors.New("it is missing")}
	}
	if err != nil {
		return err
	}
	defer o.Close() //nolint:errcheck // only read
	if o.Size() != f.Size {
		return &DamagedError{name, fmt.Errorf("it has %d bytes, and had %d", o.Size(), f.Size)}
	}
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), io.NewSectionReader(o, 0, f.Size)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != f.SHA256 {
		return &DamagedError{name, fmt.Errorf("its checksum is %.12s…, and was %.12s…", got, f.SHA256)}
	}
	return nil
}

// Verify reads all files of a checkpoint and compares them with its manifest. All that is wrong is in the error.
func Verify(ctx context.Context, place storage.Store, m *Manifest) error {
	var errs []error
	for i := range m.Files {
		if err := check(ctx, place, &m.Files[i], io.Discard); err != nil {
			errs = append(errs, err)
			var bad *DamagedError
			if !errors.As(err, &bad) {
				break
			}
		}
	}
	return errors.Join(errs...)
}
