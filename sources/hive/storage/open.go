package storage

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	gcaws "gocloud.dev/aws"
	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/blob/s3blob"

	"keystone/configs/diag"
	"keystone/configs/spec"
)

// Location says where a place is and how to get at it, as blocks declare it.
type Location struct {
	URL       string // a folder, or s3://, gs://, azblob://
	Endpoint  string
	Region    string
	PathStyle bool
	AccessKey spec.Secret
	SecretKey spec.Secret
}

// Options declares it.
func (l *Location) Options() spec.Options {
	return spec.Options{
		spec.String("location", &l.URL, "Where the table is: a folder, relative to the configuration's directory, or `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, `azblob://CONTAINER/PATH`. "+
			"Credentials come from where each cloud's own tools look: AWS_… variables, profiles and roles; GOOGLE_APPLICATION_CREDENTIALS; AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or an identity.").
			Required().Eg(`"s3://warehouse/plays"`).Also("path", "uri", "url"),
		spec.String("endpoint", &l.Endpoint, "Address of a server that speaks S3's protocol; empty is Amazon's.").Default("").Eg(`"https://minio.example:9000"`),
		spec.String("region", &l.Region, "Region of the bucket on S3; empty is that of the environment (AWS_REGION, the profile), or us-east-1 where there is an endpoint.").Default("").Eg(`"eu-west-1"`),
		spec.Bool("path_style", &l.PathStyle, "The bucket stands in the path and not in the host name, as most servers other than Amazon's want it.").Default(false).Also("use_path_style", "force_path_style", "s3_force_path_style"),
		spec.Sensitive("access_key", &l.AccessKey, "Access key id for S3; empty is that of the environment.").Default(spec.Secret{}).MayBeWritten(),
		spec.Sensitive("secret_key", &l.SecretKey, "Secret access key for S3.").Default(spec.Secret{}),
	}
}

var schemes = []string{s3blob.Scheme, gcsblob.Scheme, azureblob.Scheme}

const schemeList = "a folder, s3://, gs:// or azblob://"

// Check reports what cannot work.
func (l *Location) Check(code string) diag.Diagnostics {
	var ds diag.Diagnostics
	bad := func(option, format string, a ...any) {
		ds.AddOptionf(option, code, "Invalid location of a table", format, a...)
	}
	scheme, _, remote := strings.Cut(l.URL, "://")
	switch {
	case l.URL == "":
		bad("location", "location is empty. Name %s.", schemeList)
	case !remote:
		if strings.ContainsRune(l.URL, 0) {
			bad("location", "location has a zero byte.")
		}
	case !slices.Contains(schemes, scheme):
		bad("location", "location = %q: there is no storage %q; it takes %s.%s", l.URL, scheme+"://", schemeList, nearScheme(scheme))
	default:
		u, err := url.Parse(l.URL)
		switch {
		case err != nil:
			bad("location", "location is no URL: %v.", errors.Unwrap(err))
		case u.User != nil:
			bad("location", "location has a user or a password in it. Give access_key and secret_key, or set the environment of the cloud's tools.")
			ds.Hide(len(ds) - 1)
		case u.Host == "":
			bad("location", "location = %q names no bucket: write %s://BUCKET/PATH.", l.URL, scheme)
		case strings.Contains("/"+u.Path+"/", "/../"), strings.Contains("/"+u.Path+"/", "/./"):
			bad("location", "location = %q has . or .. in its path, which an object store takes for a name.", l.URL)
		}
	}
	if !remote || scheme != s3blob.Scheme {
		for _, o := range l.onlyS3() {
			bad(o, "%s is for s3:// locations. Leave it out.", o)
		}
	}
	l.checkKeys(bad)
	if l.Endpoint != "" {
		if u, err := url.Parse(l.Endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			bad("endpoint", "endpoint = %q is no address: write https://HOST:PORT.", l.Endpoint)
		}
	}
	return ds
}

// onlyS3 names the options that are set and mean nothing for other stores.
func (l *Location) onlyS3() (out []string) {
	for _, o := range []struct {
		name string
		set  bool
	}{{"endpoint", l.Endpoint != ""}, {"region", l.Region != ""}, {"path_style", l.PathStyle}, {"access_key", !l.AccessKey.IsZero()}, {"secret_key", !l.SecretKey.IsZero()}} {
		if o.set {
			out = append(out, o.name)
		}
	}
	return out
}

func (l *Location) checkKeys(bad func(option, format string, a ...any)) {
	switch {
	case !l.AccessKey.IsZero() && l.SecretKey.IsZero():
		bad("access_key", "access_key and secret_key go together; add secret_key.")
	case l.AccessKey.IsZero() && !l.SecretKey.IsZero():
		bad("secret_key", "access_key and secret_key go together; add access_key.")
	}
}

// CheckKeys reports half of the credentials, for those who learn the location later.
func (l *Location) CheckKeys(code string) (ds diag.Diagnostics) {
	l.checkKeys(func(option, format string, a ...any) {
		ds.AddOptionf(option, code, "Half of the credentials", format, a...)
	})
	return ds
}

func nearScheme(s string) string {
	switch s {
	case "s3a", "s3n":
		return " Write s3://."
	case "gcs":
		return " Write gs://."
	case "abfs", "abfss", "wasb", "wasbs", "az":
		return " Write azblob://CONTAINER/PATH; the account comes from AZURE_STORAGE_ACCOUNT."
	case "file":
		return " Write the path of the folder alone."
	}
	return ""
}

// Open opens the place. dir is what a relative folder is relative to. It asks nothing of an object store yet.
func (l *Location) Open(ctx context.Context, dir string, resolve func(spec.Secret) (string, error)) (Store, error) {
	if !strings.Contains(l.URL, "://") {
		folder := l.URL
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, folder)
		}
		d, err := OpenDisk(folder)
		if err != nil {
			return nil, fmt.Errorf("open the folder %s: %w", folder, err)
		}
		return NewLocal(folder, d), nil
	}
	u, err := url.Parse(l.URL)
	if err != nil {
		return nil, fmt.Errorf("location: %w", err)
	}
	bucket, err := l.bucket(ctx, u, resolve)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", shown(u), plain(err))
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" {
		prefix += "/"
	}
	var azure *container.Client
	if bucket.As(&azure) {
		return NewAzure(shown(u), azure, prefix), nil
	}
	return NewObjects(shown(u), bucket, prefix), nil
}

// shown is a location without what may be secret in its query.
func shown(u *url.URL) string { return u.Scheme + "://" + u.Host + u.Path }

func (l *Location) bucket(ctx context.Context, u *url.URL, resolve func(spec.Secret) (string, error)) (*blob.Bucket, error) {
	switch u.Scheme {
	case azureblob.Scheme:
		return openAzure(ctx, u)
	case gcsblob.Scheme:
		return openGCS(ctx, u)
	}
	q := u.Query()
	pathStyle := l.PathStyle || q.Get("use_path_style") == "true"
	q.Del("use_path_style")
	if l.Endpoint != "" {
		q.Set("endpoint", l.Endpoint)
	}
	if l.Region != "" {
		q.Set("region", l.Region)
	}
	cfg, err := gcaws.V2ConfigFromURLParams(ctx, q)
	if err != nil {
		return nil, err
	}
	foreign := q.Get("endpoint") != "" || cfg.BaseEndpoint != nil
	if foreign {
		if cfg.Region == "" {
			cfg.Region = "us-east-1"
		}
		cfg.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired // others do not know the newer ones
		cfg.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	}
	if !l.AccessKey.IsZero() {
		key, err := resolve(l.AccessKey)
		if err != nil {
			return nil, err
		}
		secret, err := resolve(l.SecretKey)
		if err != nil {
			return nil, err
		}
		cfg.Credentials = credentials.NewStaticCredentialsProvider(key, secret, "")
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = pathStyle })
	return s3blob.OpenBucket(ctx, client, u.Host, &s3blob.Options{RequestChecksumCalculation: cfg.RequestChecksumCalculation})
}
