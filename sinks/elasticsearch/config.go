// Package elasticsearch writes records as documents, in bulk requests whose items are
// classified one by one.
//
// A batch is encoded when it is written, outside of any lock, and its items are put into the bulk that is
// open, together with those of other batches. Bulks are sent by as many goroutines as the limit allows, which
// follows what the cluster can take. An answer gives each item of a bulk its outcome; a batch is done
// when all its items have one.
//
// Lock order: Sink.mu alone; nothing is sent, encoded or answered under it.
package elasticsearch

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sinks"
)

// Kind is the entry of the catalog.
func Kind() sinks.Kind {
	return sinks.Kind{
		Name: "elasticsearch",
		Cannot: map[string]string{
			"exactly_once": "Elasticsearch takes part in no transaction of Kafka. With the ids that Keystone derives (leave id out) at_least_once already has each event in the index once: a repeat replaces the document by itself",
		},
		Doc: "Writes each event as a document, in bulk requests. " +
			"Without `id`, the id of a document is derived from where its event was read, and its version from the generation of the route (`keystone rewind`) and the revision of its program: " +
			"what is written twice is there once, and what an older worker or program writes late changes nothing. " +
			"With `id`, the documents of one id are written in the order of the source's partition, one batch of a partition at a time; with `version` too, the highest version wins in whatever order they come. " +
			"A null value deletes the document, where `id` is given (it has no fields: take the id from `meta.key`). " +
			"Each item of an answer is looked at by itself: what the cluster cannot take now (429, 5xx, a missing index) is written again, what it refuses for ever (a mapping that does not fit) is a dead letter with its reason, and credentials that are refused (401, 403) stop the route. " +
			"How many requests are under way at once follows how the cluster answers, up to `concurrency`.",
		New: func() sinks.Config { return new(Config) },
	}
}

// Action says what becomes of an event.
type Action string

// The actions.
const (
	Index  Action = "index"
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
)

// Compression says how requests are packed.
type Compression string

// The compressions.
const (
	Plain Compression = "none"
	Gzip  Compression = "gzip"
)

// Config is the options of sink "elasticsearch".
type Config struct {
	URLs     []string
	Index    diag.Text
	ID       diag.Text
	Routing  diag.Text
	Version  diag.Text
	Delete   diag.Text
	Action   Action
	Pipeline string
	Origin   bool
	// OriginSaid tells that the user wrote origin; otherwise it is true for action create.
	OriginSaid bool

	BatchBytes   int64
	BatchRecords int
	Linger       time.Duration
	BufferBytes  int64
	Concurrency  int
	Compression  Compression

	RequestTimeout time.Duration
	DialTimeout    time.Duration
	TLS            TLS
	Auth           Auth

	Template   Template
	Lifecycle  Lifecycle
	Aliases    []string
	DataStream bool
	OnDestroy  string
}

// TLS is how nodes with an https URL are spoken to.
type TLS struct {
	Written    bool
	CA         spec.Secret
	Cert, Key  spec.Secret
	ServerName string
	SkipVerify bool
}

// Auth is how Keystone proves itself: a user, an API key or a token.
type Auth struct {
	Written            bool
	Username, Password spec.Secret
	APIKey             spec.Secret
	Token              spec.Secret
}

// Options declares them. The derived ones are in the order of the fields of columns.
func (c *Config) Options() spec.Options {
	return append(spec.Options{
		spec.Strings("urls", &c.URLs, "URLs of nodes, all of one cluster. A node that cannot be reached is left out for a minute, then tried again.").Required().Eg(`["http://127.0.0.1:9200"]`).Also("hosts", "addresses", "brokers", "url", "endpoints"),
		spec.Pattern("index", &c.Index, "Name of the index, the alias or the data stream; with placeholders over the output event, one index for each value. A data stream takes `action = \"create\"` alone.").Required().OverOutput().Eg(`"plays-{ts:2006.01.02}"`),
		spec.Expr("id", &c.ID, "Id of the document. Unless said, it is derived from where the event was read, so that a repeat changes nothing.").OverOutput().Eg(`"user_id"`).Also("document_id", "_id"),
		spec.Expr("routing", &c.Routing, "What decides which shard has the document, in place of its id; an event without it is refused. An id is there once among the documents of its shard: where an event that is repeated gets another routing (after a change of the route, a rewind), its document may be there twice.").OverOutput().Eg(`"user_id"`).Also("_routing"),
		spec.Expr("version", &c.Version, "A whole number, 0 or more. A document is replaced or deleted only by one with the same version or a higher one, so that what comes late does no harm. A field such as `updated_at` in milliseconds is one; where each id is in one partition of the source, `meta.offset` is, too. Needs `id`.").OverOutput(),
		spec.Expr("delete", &c.Delete, "A condition, such as `op == 'delete'`: where it is true, the document is deleted. Needs `id`.").OverOutput(),
		spec.Enum("action", &c.Action, "What becomes of an event: it replaces the document, it makes one that must not be there yet, its fields go into the document (which is made if there is none), or the document is deleted. The last two need `id`.", Index, Create, Update, Delete).Default(Index),
		spec.String("pipeline", &c.Pipeline, "Ingest pipeline of the cluster that documents go through. It must be there: until it is, documents wait. What it refuses is a dead letter, and what it drops counts as delivered; one that changes ids or indices takes away that a repeat changes nothing.").Default("").Eg(`"enrich"`).Also("ingest_pipeline"),
		spec.Bool("origin", &c.Origin, "Add the field `_ks` to documents: the route, topic or file, partition and offset that the event came from. Unless said, with `action = \"create\"` alone, where it tells a repeat from a conflict. A strict mapping must have the field; with `{\"type\": \"object\", \"enabled\": false}` it is kept and not indexed.").Written(&c.OriginSaid),
		spec.Bytes("batch_bytes", &c.BatchBytes, "Largest request, before it is packed. A larger document goes alone.").Default(int64(5<<20)).Between(1<<10, 100<<20),
		spec.Int("batch_records", &c.BatchRecords, "Most documents of a request.").Default(10_000).Between(1, 1_000_000),
		spec.Duration("linger", &c.Linger, "How long a document waits for others to be sent with, where the request is not full and another could be sent.").Default(20*time.Millisecond).Between(0, 60),
		spec.Bytes("buffer_bytes", &c.BufferBytes, "Documents of one route that wait or are on their way, at most. When they are that much, reading waits.").Default(int64(64<<20)).Between(1<<20, 8<<30),
		spec.Int("concurrency", &c.Concurrency, "Most requests of one route under way at once. There are fewer while the cluster refuses some for being too many, or answers more slowly the more there are.").Default(8).Between(1, 256),
		spec.Enum("compression", &c.Compression, "How requests are packed.", Plain, Gzip).Default(Plain),
		spec.Duration("request_timeout", &c.RequestTimeout, "How long a request may take. After that nobody knows whether it took effect, and it is repeated.").Default(time.Minute).Between(1, 3600),
		spec.Duration("dial_timeout", &c.DialTimeout, "How long connecting to a node may take.").Default(10*time.Second).Between(0.1, 300),
		spec.Nested("tls", "What nodes with an https URL have to show. Without the block, the system's certificate authorities count.", spec.Options{
			spec.Sensitive("ca", &c.TLS.CA, "Certificates of the authorities to trust, in PEM.").Eg(`file("ca.pem")`),
			spec.Sensitive("cert", &c.TLS.Cert, "Client certificate, in PEM.").Eg(`file("client.pem")`),
			spec.Sensitive("key", &c.TLS.Key, "Key of the client certificate, in PEM.").Eg(`file("client.key")`),
			spec.String("server_name", &c.TLS.ServerName, "Name that the nodes' certificates must have, where it is not their host name."),
			spec.Bool("skip_verify", &c.TLS.SkipVerify, "Accept any certificate. Anybody between may then read and change everything."),
		}).Presence(&c.TLS.Written),
		spec.Nested("auth", "Prove who Keystone is, in one of three ways: `username` and `password`, `api_key`, or `token`.", spec.Options{
			spec.Sensitive("username", &c.Auth.Username, "Name of the user.").MayBeWritten().Eg(`env("ELASTIC_USER")`),
			spec.Sensitive("password", &c.Auth.Password, "Password of the user.").Eg(`env("ELASTIC_PASSWORD")`),
			spec.Sensitive("api_key", &c.Auth.APIKey, "API key, as Elasticsearch shows it under `encoded`.").Eg(`env("ELASTIC_API_KEY")`),
			spec.Sensitive("token", &c.Auth.Token, "Token of a service account, or any other bearer token.").Eg(`env("ELASTIC_TOKEN")`),
		}).Presence(&c.Auth.Written),
	}, c.outsideOptions()...)
}

// columns says where in Record.Derived the sink's expressions are; -1 where there is none.
type columns struct{ index, id, routing, version, delete int }

func (c *Config) columns() columns {
	n := -1
	at := func(t diag.Text) int {
		if t.S == "" {
			return -1
		}
		n++
		return n
	}
	return columns{index: at(c.Index), id: at(c.ID), routing: at(c.Routing), version: at(c.Version), delete: at(c.Delete)}
}

// origin tells whether documents get the field _ks.
func (c *Config) origin() bool {
	if c.OriginSaid {
		return c.Origin
	}
	return c.Action == Create
}

// TakesNull tells that null values delete, where the user says what ids are.
func (c *Config) TakesNull() bool { return c.ID.S != "" }

// Check reports what cannot work.
func (c *Config) Check() diag.Diagnostics {
	var ds diag.Diagnostics
	c.checkURLs(&ds)
	c.checkActions(&ds)
	c.checkAuth(&ds)
	c.checkOutside(&ds)
	if c.DataStream && c.Routing.S != "" {
		ds.Addf(c.Routing.Range, codeIndex, "Data stream with routing", "A data stream spreads its documents itself. Leave routing out.")
	}
	if c.Pipeline == "_none" || strings.ContainsAny(c.Pipeline, "/,*?\"<>| \x00") {
		ds.AddOptionf("pipeline", codeIndex, "Not a name of a pipeline", "pipeline = %q names none; leave it out for none.", c.Pipeline)
	}
	if c.Index.S == "" {
		ds.Addf(c.Index.Range, codeIndex, "No name of an index", "index is empty. Name one, such as \"plays-{ts:2006.01.02}\".")
	}
	if c.TLS.Cert.IsZero() != c.TLS.Key.IsZero() {
		ds.AddOptionf(written(&c.TLS.Cert, "tls.cert", "tls.key"), codeTLS, "Half a client certificate", "tls.cert and tls.key go together.")
	}
	if c.TLS.SkipVerify && !c.TLS.CA.IsZero() {
		ds.AddOptionf("tls.skip_verify", codeTLS, "Contradiction", "tls.skip_verify accepts any certificate, so tls.ca has no meaning. Remove one of them.")
	}
	return ds
}

func (c *Config) checkURLs(ds *diag.Diagnostics) {
	if len(c.URLs) == 0 {
		ds.AddOptionf("urls", codeURL, "No node", "urls is empty. Name at least one node, such as \"http://127.0.0.1:9200\".")
	}
	secure := false
	for i, text := range c.URLs {
		at := "urls." + strconv.Itoa(i)
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			ds.AddOptionf(at, codeURL, "Not a URL of a node", "urls has %q, which is no URL with http or https and a host, such as \"https://search-1.internal:9200\".", text)
			continue
		case u.User != nil:
			ds.AddOptionf(at, codeURL, "Credentials in a URL", "urls has a URL with a user in it, which every plan and log would show. Write them into auth { username = …  password = env(\"…\") }.")
			ds.Hide(len(*ds) - 1)
		case u.RawQuery != "" || u.Fragment != "":
			ds.AddOptionf(at, codeURL, "Not a URL of a node", "urls has %q; what follows the path has no meaning here.", text)
		case u.Scheme == "http" && c.Auth.Written && !loopback(u.Hostname()):
			ds.WarnOptionf(at, codePlain, "Credentials in the clear", "auth is sent to %s without TLS: who listens in between reads it. Use an https URL.", text)
		}
		secure = secure || u.Scheme == "https"
	}
	if c.TLS.Written && !secure && len(c.URLs) > 0 {
		ds.AddOptionf("tls", codeTLS, "TLS without https", "There is a tls block and no URL that begins with https.")
	}
}

// written names the one of two options that is there.
func written(s *spec.Secret, option, other string) string {
	if s.IsZero() {
		return other
	}
	return option
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Config) checkActions(ds *diag.Diagnostics) {
	own := c.ID.S != ""
	switch {
	case (c.Action == Update || c.Action == Delete) && !own:
		ds.AddOptionf("action", codeAction, "Action without id", "action = %q changes a document that is there, so it needs id: an expression that says which.", c.Action)
	case c.Delete.S != "" && !own:
		ds.Addf(c.Delete.Range, codeAction, "Action without id", "delete takes away a document that is there, so it needs id: an expression that says which.")
	}
	if c.Delete.S != "" && (c.Action == Delete || c.Action == Create) {
		ds.Addf(c.Delete.Range, codeAction, "Contradiction", "delete = … decides between deleting and writing, and action = %q leaves nothing to decide. Use action = \"index\" or \"update\".", c.Action)
	}
	if c.Version.S == "" {
		return
	}
	switch {
	case !own:
		ds.Addf(c.Version.Range, codeVersion, "Version without id", "version orders what is written to one document, so it needs id. Derived ids have versions of their own.")
	case c.Action == Create || c.Action == Update:
		ds.Addf(c.Version.Range, codeVersion, "Version that Elasticsearch does not take", "Elasticsearch takes external versions when it replaces or deletes a document, and action = %q does neither. Use action = \"index\".", c.Action)
	}
}

func (c *Config) checkAuth(ds *diag.Diagnostics) {
	a := &c.Auth
	if a.Username.IsZero() != a.Password.IsZero() {
		ds.AddOptionf(written(&a.Username, "auth.username", "auth.password"), codeAuth, "Half of the credentials", "auth.username and auth.password go together.")
	}
	ways, last := 0, "auth"
	for _, way := range []struct {
		s    spec.Secret
		name string
	}{{a.Username, "auth.username"}, {a.APIKey, "auth.api_key"}, {a.Token, "auth.token"}} {
		if !way.s.IsZero() {
			ways, last = ways+1, way.name
		}
	}
	if a.Written && ways != 1 && (ways > 1 || a.Password.IsZero()) {
		ds.AddOptionf(last, codeAuth, "One way to prove it", "auth takes username and password, or api_key, or token: exactly one of them.")
	}
}

// New makes the sink; it does no I/O.
func (c *Config) New(d sinks.Deps) (sinks.Sink, error) {
	if err := c.Check().Err(); err != nil {
		return nil, err
	}
	return newSink(*c, d), nil
}
