package storage_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"keystone/sources/hive/storage"
)

// azureAt opens a container on a server that a handler is, with a shared access signature.
func azureAt(t *testing.T, h http.HandlerFunc) storage.Store {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AZURE_STORAGE_ACCOUNT": "us", "AZURE_STORAGE_KEY": "", "AZURE_STORAGE_SAS_TOKEN": "sig=of-us-alone",
		"AZURE_STORAGE_DOMAIN": strings.TrimPrefix(server.URL, "http://"), "AZURE_STORAGE_PROTOCOL": "http",
	} {
		t.Setenv(name, value)
	}
	s, err := (&storage.Location{URL: "azblob://box/plays"}).Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What Hive escapes is in the name of the blob as it is, for those who do not ask Keystone.
func TestAzureNames(t *testing.T) {
	var got []string
	s := azureAt(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.URL.Path+" "+r.Header.Get("If-None-Match"))
		w.WriteHeader(http.StatusCreated)
	})
	if err := s.Create(t.Context(), "dt=a%3Ab/one", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if want := "PUT /us/box/plays/dt=a%3Ab/one *"; len(got) != 1 || got[0] != want {
		t.Errorf("asked %q, want %q", got, want)
	}
}

// A signature is a part of the address that is asked, and of no error.
func TestAzureErrors(t *testing.T) {
	status, code := http.StatusForbidden, "AuthorizationPermissionMismatch"
	ctx, cancel := context.WithCancel(t.Context())
	s := azureAt(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("sig") != "of-us-alone" {
			t.Errorf("asked %s without the signature", r.URL)
		}
		if status == 0 {
			cancel()
			<-r.Context().Done()
			return
		}
		w.Header().Set("X-Ms-Error-Code", code)
		w.WriteHeader(status)
	})
	_, refused := s.Get(ctx, "a")
	if !storage.Refused(refused) || !strings.Contains(refused.Error(), code) {
		t.Errorf("what may not be read: %v", refused)
	}
	status, code = http.StatusNotFound, "BlobNotFound"
	_, absent := s.Get(ctx, "a")
	if !errors.Is(absent, storage.ErrNotExist) {
		t.Errorf("what is not there: %v, want ErrNotExist", absent)
	}
	status, code = http.StatusNotFound, "ContainerNotFound"
	nowhere := storage.Probe(ctx, s)
	if !storage.Refused(nowhere) || !strings.Contains(nowhere.Error(), "azblob://box") {
		t.Errorf("no container: %v", nowhere)
	}
	status = 0
	_, lost := s.Get(ctx, "a")
	if !errors.Is(lost, context.Canceled) || errors.Is(lost, storage.ErrNotExist) {
		t.Errorf("no answer: %v, want context.Canceled", lost)
	}
	for _, err := range []error{refused, absent, nowhere, lost} {
		if err != nil && (strings.Contains(err.Error(), "sig=") || strings.Contains(err.Error(), "of-us-alone")) {
			t.Errorf("the signature is in %q", err)
		}
	}
}

// What the environment lacks is said with the name of what to set.
func TestCloudsWithoutCredentials(t *testing.T) {
	for _, name := range []string{"AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGEBLOB_CONNECTIONSTRING", "STORAGE_EMULATOR_HOST"} {
		t.Setenv(name, "")
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", t.TempDir()+"/none.json")
	for location, want := range map[string]string{
		"azblob://box/plays": "AZURE_STORAGE_ACCOUNT",
		"gs://box/plays":     "GOOGLE_APPLICATION_CREDENTIALS",
	} {
		if _, err := (&storage.Location{URL: location}).Open(t.Context(), "", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s in it", location, err, want)
		}
	}
	t.Setenv("AZURE_STORAGE_ACCOUNT", "us")
	t.Setenv("AZURE_STORAGE_SAS_TOKEN", "sig=of-us-alone")
	_, err := (&storage.Location{URL: "azblob://box/plays?domain=elsewhere.example"}).Open(t.Context(), "", nil)
	if err == nil || strings.Contains(err.Error(), "of-us-alone") {
		t.Errorf("a signature for another server: %v", err)
	}
}
