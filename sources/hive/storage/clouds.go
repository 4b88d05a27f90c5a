package storage

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"

	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"
	"gocloud.dev/gcp"
)

// openAzure opens a container with what AZURE_STORAGE_… say now.
func openAzure(ctx context.Context, u *url.URL) (*blob.Bucket, error) {
	opts := azureblob.NewDefaultServiceURLOptions()
	if opts.SASToken != "" && u.RawQuery != "" {
		return nil, errors.New("AZURE_STORAGE_SAS_TOKEN is of the account in AZURE_STORAGE_ACCOUNT and goes to no other: leave out what stands after the ? of location")
	}
	if opts.AccountName == "" && u.Query().Get("storage_account") == "" {
		return nil, errors.New("no account of Azure Storage is named: set AZURE_STORAGE_ACCOUNT, and AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or let an identity of Azure run this")
	}
	o := azureblob.URLOpener{MakeClient: azureblob.NewDefaultClient, ServiceURLOptions: *opts}
	return o.OpenBucketURL(ctx, u)
}

// openGCS opens a bucket. That there are no credentials is said here: the library would print it and go on.
func openGCS(ctx context.Context, u *url.URL) (*blob.Bucket, error) {
	q := u.Query()
	if os.Getenv("STORAGE_EMULATOR_HOST") == "" && q.Get("anonymous") != "true" && q.Get("access_id") != "-" {
		if _, err := gcp.DefaultCredentials(ctx); err != nil {
			return nil, fmt.Errorf("no credentials for Google Cloud: set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, or let one run this: %w", err)
		}
	}
	return blob.OpenBucket(ctx, (&url.URL{Scheme: u.Scheme, Host: u.Host, RawQuery: u.RawQuery}).String())
}
