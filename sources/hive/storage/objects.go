package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

const (
	uploadPart    = 8 << 20 // of a large object; smaller ones are one request
	uploadsAtOnce = 2       // parts of one object
)

// Objects is a part of an object store. Its conditional puts are the store's own.
type Objects struct {
	name   string
	bucket *blob.Bucket
	prefix string // "" or it ends in a slash
}

// NewObjects makes a store of the objects of a bucket whose names begin with a prefix ("" or ending in a slash). It
// closes the bucket. name is for people.
func NewObjects(name string, b *blob.Bucket, prefix string) *Objects {
	return &Objects{name: name, bucket: b, prefix: prefix}
}

// String gives the location.
func (o *Objects) String() string { return o.name }

// Close frees the connections.
func (o *Objects) Close() error { return o.bucket.Close() }

// Create puts an object on condition that there is none.
func (o *Objects) Create(ctx context.Context, name string, data []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := o.bucket.WriteAll(ctx, o.prefix+name, data, &blob.WriterOptions{IfNotExist: true, ContentType: contentType})
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return ErrExists
	}
	return o.explain("write", name, err)
}

// Confirm has nothing to do: what can be seen is durable.
func (o *Objects) Confirm(context.Context, string) error { return nil }

const contentType = "application/octet-stream"

// Upload puts an object.
func (o *Objects) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	if err := checkName(name); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := &counter{r: r, want: size, cancel: cancel}
	err := o.bucket.Upload(ctx, o.prefix+name, n, &blob.WriterOptions{ContentType: contentType, BufferSize: uploadPart, MaxConcurrency: uploadsAtOnce})
	if n.err != nil {
		err = n.err
	}
	return o.explain("write", name, err)
}

// counter sees to it that an object that lacks something never appears.
type counter struct {
	r      io.Reader
	n      int64
	want   int64
	err    error
	cancel func()
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if errors.Is(err, io.EOF) && c.n != c.want {
		err = fmt.Errorf("%d bytes were to be written, and there were %d", c.want, c.n)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
		c.cancel()
	}
	return n, err
}

// Publish lets the store copy the object; it appears whole.
func (o *Objects) Publish(ctx context.Context, from, to string) error {
	if err := errors.Join(checkName(from), checkName(to)); err != nil {
		return err
	}
	err := o.bucket.Copy(ctx, o.prefix+to, o.prefix+from, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		_, err = o.Stat(ctx, to)
		return err
	}
	return o.explain("publish", to, err)
}

// Get reads an object.
func (o *Objects) Get(ctx context.Context, name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	b, err := o.bucket.ReadAll(ctx, o.prefix+name)
	return b, o.explain("read", name, err)
}

type object struct {
	ctx    context.Context
	bucket *blob.Bucket
	key    string
	size   int64
}

// Open reads ranges of an object, each with a request of its own.
func (o *Objects) Open(ctx context.Context, name string) (Object, error) {
	fi, err := o.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	return object{ctx, o.bucket, o.prefix + name, fi.Size}, nil
}

func (o object) Size() int64  { return o.size }
func (o object) Close() error { return nil }

func (o object) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), o.size-off)
	if n <= 0 {
		return 0, io.EOF
	}
	r, err := o.bucket.NewRangeReader(o.ctx, o.key, off, n, nil)
	if err != nil {
		return 0, err
	}
	k, err := io.ReadFull(r, p[:n])
	err = errors.Join(err, r.Close())
	if err == nil && k < len(p) {
		err = io.EOF
	}
	return k, err
}

// Stat asks for the object's attributes.
func (o *Objects) Stat(ctx context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	a, err := o.bucket.Attributes(ctx, o.prefix+name)
	if err != nil {
		return Info{}, o.explain("look at", name, err)
	}
	return Info{name, a.Size, a.ModTime}, nil
}

// Delete deletes an object.
func (o *Objects) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := o.bucket.Delete(ctx, o.prefix+name)
	if gcerrors.Code(err) == gcerrors.NotFound {
		err = nil
	}
	return o.explain("delete", name, err)
}

// List lists by pages.
func (o *Objects) List(ctx context.Context, folder string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		it := o.bucket.List(&blob.ListOptions{Prefix: o.prefix + folder})
		for {
			x, err := it.Next(ctx)
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(Info{}, o.explain("list", folder, err))
				return
			case !yield(Info{x.Key[len(o.prefix):], x.Size, x.ModTime}, nil):
				return
			}
		}
	}
}

// Probe tells whether a store holds to conditions of a put: one that ignores them
// would let two writers commit at once.
func Probe(ctx context.Context, s Store) error {
	name := tempDir + "/" + rand.Text()
	if err := s.Create(ctx, name, []byte("probe")); errors.Is(err, ErrNotExist) {
		return &AbsentError{s.String()}
	} else if err != nil {
		return err
	}
	err := s.Create(ctx, name, []byte("probe"))
	if err2 := s.Delete(ctx, name); err2 != nil {
		return err2
	}
	switch {
	case err == nil:
		return &UnsafeError{s.String()}
	case errors.Is(err, ErrExists):
		return nil
	}
	return err
}

// UnsafeError is a store whose conditional puts succeed whatever is there.
type UnsafeError struct{ Name string }

// Error says what would happen.
func (e *UnsafeError) Error() string {
	return e.Name + " ignores the condition of a put (If-None-Match), so that two writers would overwrite each other's commits: use a version of the server that knows it"
}

// AbsentError is a store that has no bucket or container of that name.
type AbsentError struct{ Name string }

// Error says what to do.
func (e *AbsentError) Error() string {
	return e.Name + ": there is no such bucket or container. Make it, or correct location; objects are made in it, it is not"
}

func (o *Objects) explain(what, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case gcerrors.Code(err) == gcerrors.NotFound:
		return fmt.Errorf("%s %s in %s: %w", what, name, o.name, ErrNotExist)
	}
	return fmt.Errorf("%s %s in %s: %w", what, name, o.name, err)
}

// Refused tells an error that trying again does not mend: who asks may not.
func Refused(err error) bool {
	var answer *awshttp.ResponseError // gocloud does not know all that S3 says with it
	if errors.As(err, &answer) && (answer.HTTPStatusCode() == http.StatusForbidden || answer.HTTPStatusCode() == http.StatusUnauthorized) {
		return true
	}
	var azure *AzureError
	if errors.As(err, &azure) {
		return azure.Status == http.StatusForbidden || azure.Status == http.StatusUnauthorized || azure.Status == http.StatusBadRequest
	}
	var absent *AbsentError
	if errors.As(err, &absent) {
		return true
	}
	code := gcerrors.Code(err)
	return code == gcerrors.PermissionDenied || code == gcerrors.InvalidArgument || code == gcerrors.Unimplemented
}
