package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// Azure is a part of a container of Azure Blob Storage. Names are the blobs' own, so that others find the
// partition dt=a%3Ab by that name: gocloud writes the percent sign as __0x25__. It also takes a name server
// that does not answer for a blob that is not there.
type Azure struct {
	name   string
	c      *container.Client
	prefix string // "" or it ends in a slash
}

// NewAzure makes a store of the blobs of a container whose names begin with a prefix ("" or ending in a
// slash). name is for people.
func NewAzure(name string, c *container.Client, prefix string) *Azure {
	return &Azure{name: name, c: c, prefix: prefix}
}

// String gives the location.
func (a *Azure) String() string { return a.name }

// Close has nothing to do: clients share their connections.
func (a *Azure) Close() error { return nil }

func (a *Azure) blob(name string) *blockblob.Client { return a.c.NewBlockBlobClient(a.prefix + name) }

var octets = contentType // what blobs say of themselves

// Create puts a blob on condition that there is none.
func (a *Azure) Create(ctx context.Context, name string, data []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	none := azcore.ETagAny
	_, err := a.blob(name).Upload(ctx, streaming.NopCloser(bytes.NewReader(data)), &blockblob.UploadOptions{
		HTTPHeaders:      &blob.HTTPHeaders{BlobContentType: &octets},
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &none}},
	})
	if bloberror.HasCode(err, bloberror.BlobAlreadyExists, bloberror.ConditionNotMet, bloberror.TargetConditionNotMet) {
		return ErrExists
	}
	return a.explain("write", name, err)
}

// Confirm has nothing to do: what can be seen is durable.
func (a *Azure) Confirm(context.Context, string) error { return nil }

// Upload puts a blob, a large one in blocks that count once all are there.
func (a *Azure) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	if err := checkName(name); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := &counter{r: r, want: size, cancel: cancel}
	_, err := a.blob(name).UploadStream(ctx, n, &blockblob.UploadStreamOptions{
		BlockSize: min(uploadPart, max(size, 1)), Concurrency: uploadsAtOnce, HTTPHeaders: &blob.HTTPHeaders{BlobContentType: &octets},
	})
	if n.err != nil {
		err = n.err
	}
	return a.explain("write", name, err)
}

// copyPoll is how often a copy that takes its time is looked at.
const copyPoll = 250 * time.Millisecond

// Publish lets the store copy the blob; it appears whole. Within an account that is done with the answer, as a rule.
func (a *Azure) Publish(ctx context.Context, from, to string) error {
	if err := errors.Join(checkName(from), checkName(to)); err != nil {
		return err
	}
	answer, err := a.blob(to).StartCopyFromURL(ctx, a.blob(from).URL(), nil)
	status := answer.CopyStatus
	switch {
	case bloberror.HasCode(err, bloberror.PendingCopyOperation): // an earlier call's
		pending := blob.CopyStatusTypePending
		status = &pending
	case bloberror.HasCode(err, bloberror.BlobNotFound, bloberror.CannotVerifyCopySource) && isNotFound(err):
		_, err := a.Stat(ctx, to)
		return err
	case err != nil:
		return a.explain("publish", to, err)
	}
	for status != nil && *status == blob.CopyStatusTypePending {
		select {
		case <-time.After(copyPoll):
		case <-ctx.Done():
			return a.explain("publish", to, ctx.Err())
		}
		p, err := a.blob(to).GetProperties(ctx, nil)
		if err != nil {
			return a.explain("publish", to, err)
		}
		status = p.CopyStatus
	}
	if status != nil && *status != blob.CopyStatusTypeSuccess {
		return a.explain("publish", to, fmt.Errorf("the copy ended with %q", *status))
	}
	return nil
}

// Get reads a blob.
func (a *Azure) Get(ctx context.Context, name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var data []byte
	body, err := a.download(ctx, name, blob.HTTPRange{})
	if err == nil {
		data, err = io.ReadAll(body)
		err = errors.Join(err, body.Close())
	}
	return data, a.explain("read", name, err)
}

// download begins where a connection broke, unless the blob is another one since.
func (a *Azure) download(ctx context.Context, name string, r blob.HTTPRange) (io.ReadCloser, error) {
	d, err := a.blob(name).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: r})
	if err != nil {
		return nil, err
	}
	return d.NewRetryReader(ctx, nil), nil
}

type azureObject struct {
	ctx  context.Context
	a    *Azure
	name string
	size int64
}

// Open reads ranges of a blob, each with a request of its own.
func (a *Azure) Open(ctx context.Context, name string) (Object, error) {
	fi, err := a.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	return azureObject{ctx, a, name, fi.Size}, nil
}

func (o azureObject) Size() int64  { return o.size }
func (o azureObject) Close() error { return nil }

func (o azureObject) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), o.size-off)
	if n <= 0 {
		return 0, io.EOF
	}
	body, err := o.a.download(o.ctx, o.name, blob.HTTPRange{Offset: off, Count: n})
	if err != nil {
		return 0, o.a.explain("read", o.name, err)
	}
	k, err := io.ReadFull(body, p[:n])
	if err = errors.Join(err, body.Close()); err != nil {
		return k, o.a.explain("read", o.name, err)
	}
	if k < len(p) {
		return k, io.EOF
	}
	return k, nil
}

// Stat asks for the blob's properties.
func (a *Azure) Stat(ctx context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	p, err := a.blob(name).GetProperties(ctx, nil)
	if err != nil {
		return Info{}, a.explain("look at", name, err)
	}
	return Info{name, value(p.ContentLength), value(p.LastModified)}, nil
}

// Delete deletes a blob.
func (a *Azure) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	_, err := a.blob(name).Delete(ctx, nil)
	if bloberror.HasCode(err, bloberror.BlobNotFound) {
		err = nil
	}
	return a.explain("delete", name, err)
}

// List lists by pages. Folders, which accounts with a hierarchical namespace have, are not among it.
func (a *Azure) List(ctx context.Context, folder string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		prefix := a.prefix + folder
		pages := a.c.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix, Include: container.ListBlobsInclude{Metadata: true}})
		for pages.More() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Info{}, a.explain("list", folder, err))
				return
			}
			for _, b := range page.Segment.BlobItems {
				if isFolder(b) {
					continue
				}
				if !yield(Info{value(b.Name)[len(a.prefix):], value(b.Properties.ContentLength), value(b.Properties.LastModified)}, nil) {
					return
				}
			}
		}
	}
}

func isFolder(b *container.BlobItem) bool {
	for k, v := range b.Metadata {
		if http.CanonicalHeaderKey(k) == "Hdi_isfolder" && value(v) == "true" {
			return true
		}
	}
	return value(b.Properties.ResourceType) == "directory"
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// AzureError is an answer of Azure Blob Storage that is no success. It has no address in it: that may hold a
// signature.
type AzureError struct {
	Status int
	Code   string // of the service: AuthenticationFailed
}

// Error gives the service's word.
func (e *AzureError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("the store answers with status %d", e.Status)
	}
	return fmt.Sprintf("the store answers %s (status %d)", e.Code, e.Status)
}

func isNotFound(err error) bool {
	var answer *azcore.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}

func (a *Azure) explain(what, name string, err error) error {
	var answer *azcore.ResponseError
	switch {
	case err == nil:
		return nil
	case isNotFound(err):
		return fmt.Errorf("%s %s in %s: %w", what, name, a.name, ErrNotExist)
	case errors.As(err, &answer):
		err = &AzureError{answer.StatusCode, answer.ErrorCode}
	}
	return fmt.Errorf("%s %s in %s: %w", what, name, a.name, plain(err))
}

// plain is an error without the address that was asked: a shared access signature is a part of that.
func plain(err error) error {
	var transport *url.Error
	if errors.As(err, &transport) {
		return transport.Err
	}
	return err
}
