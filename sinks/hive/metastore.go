package hive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sinks"
	"keystone/sources/hive/chain"
	"keystone/sources/hive/metastore"
	"keystone/sources/hive/storage"
)

// Metastore says where the table is known, as blocks declare it.
type Metastore struct {
	Address   string // "": nowhere
	Location  string // of the table, in the words of those who read it; "": as location says
	OnDestroy string
}

func (m *Metastore) options() spec.Options {
	return spec.Options{
		spec.String("metastore", &m.Address, "Hive Metastore that knows the table: `thrift://HOST:PORT`, or several with commas between that are tried in turn. It needs `table`. The database and the external table are made and get new columns by `keystone apply`, and partitions are registered when they have files. While it does not answer files land all the same, and are registered later.").
			Default("").Also("metastore_uri", "metastore_uris", "hive_metastore"),
		spec.String("table_location", &m.Location, "Where those who ask the metastore find `location`: a URI in the words of Hadoop. Empty is `file://FOLDER`, `s3a://BUCKET/PATH` or `gs://BUCKET/PATH`; `azblob://` needs it: `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH`.").
			Default(""),
		spec.Enum("on_destroy", &m.OnDestroy, "Whether the table goes out of the metastore when the block does, if Keystone made it. The files stay either way.", "keep", "delete").Default("keep"),
	}
}

func (c *Config) checkMetastore() (ds diag.Diagnostics) {
	bad := func(option, format string, a ...any) {
		ds.AddOptionf(option, codeMetastore, "Invalid metastore", format, a...)
	}
	m := c.Metastore
	if m.Address == "" {
		if m.Location != "" {
			bad("table_location", "table_location is for a metastore, and none is named. Name one, or leave it out.")
		}
		if m.OnDestroy == "delete" {
			bad("on_destroy", "on_destroy = \"delete\" takes a table out of the metastore, and none is named. Files are never deleted. Leave it out.")
		}
		return ds
	}
	if _, err := metastore.New(m.Address, timeout); err != nil {
		bad("metastore", "metastore: %v.", err)
	}
	if c.Table == "" {
		bad("metastore", "A metastore knows tables by name. Add table = \"DATABASE.TABLE\".")
	}
	scheme, _, remote := strings.Cut(m.Location, "://")
	switch {
	case m.Location != "" && (!remote || scheme == ""):
		bad("table_location", "table_location = %q is no URI: write SCHEME://…, as s3a://BUCKET/PATH.", m.Location)
	case m.Location == "" && strings.HasPrefix(c.Location.URL, "azblob://"):
		bad("location", "Readers find %s by the name of its account, too. Add table_location = \"abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH\".", c.Location.URL)
	}
	return ds
}

// timeout bounds each call to a metastore.
const timeout = 30 * time.Second

// tableURI is where readers find the table.
func (c *Config) tableURI(dir string) (string, error) {
	l := c.Location.URL
	scheme, rest, remote := strings.Cut(l, "://")
	switch {
	case c.Metastore.Location != "":
		return strings.TrimRight(c.Metastore.Location, "/"), nil
	case !remote:
		if !filepath.IsAbs(l) {
			l = filepath.Join(dir, l)
		}
		abs, err := filepath.Abs(l)
		if err != nil {
			return "", err
		}
		return "file://" + filepath.ToSlash(abs), nil
	}
	rest, _, _ = strings.Cut(rest, "?")
	if scheme == "s3" {
		scheme = "s3a" // what Hadoop calls it; s3:// was something else there
	}
	return scheme + "://" + strings.TrimRight(rest, "/"), nil
}

// sameURI compares locations as Hadoop does: "file:///a/" is "file:/a".
func sameURI(a, b string) bool { return plainURI(a) == plainURI(b) }

func plainURI(s string) string {
	s = strings.TrimRight(s, "/")
	for _, p := range []string{"file:///", "file:/"} {
		if rest, ok := strings.CutPrefix(s, p); ok {
			return "file:/" + strings.TrimLeft(rest, "/")
		}
	}
	for _, p := range []string{"s3a://", "s3n://"} { // one store by several names
		if rest, ok := strings.CutPrefix(s, p); ok {
			return "s3://" + rest
		}
	}
	return s
}

// RefusedPartitions is the answer that some partitions cannot be registered, while the others are.
type RefusedPartitions struct {
	Why  map[string]error // by path
	Rest bool             // of the others it is not known: they are tried again, before these
}

// Error gives the first, and how many there are.
func (e *RefusedPartitions) Error() string {
	paths := slices.Sorted(maps.Keys(e.Why))
	text := paths[0] + ": " + e.Why[paths[0]].Error()
	if n := len(paths) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d others)", n)
	}
	return text
}

// register is a Registrar over a metastore's client.
type register struct {
	*metastore.Client
	db, table, uri string
}

var _ Registrar = (*register)(nil)

// registrar gives who registers the partitions; nil if nobody does.
func (c *Config) registrar(d sinks.Deps) (Registrar, error) {
	if c.Metastore.Address == "" {
		return nil, nil
	}
	r, err := c.register(d)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (c *Config) register(d sinks.Deps) (*register, error) {
	client, err := metastore.New(c.Metastore.Address, timeout)
	if err != nil {
		return nil, sinks.Permanent{Err: err}
	}
	uri, err := c.tableURI(d.Dir)
	if err != nil {
		return nil, sinks.Permanent{Err: err}
	}
	db, table := metastore.Name(c.Table)
	return &register{client, db, table, uri}, nil
}

// refusalsMost is how many partitions are looked for one by one in a call that a metastore refuses. The rest is
// left for another time: it may refuse everything.
const refusalsMost = 16

var errEnough = errors.New("enough refusals")

// Register adds partitions, and sees that those that were there already are where the files are.
func (r *register) Register(ctx context.Context, parts []Partition) error {
	if len(parts) == 0 {
		return nil
	}
	refused := &RefusedPartitions{Why: map[string]error{}}
	if err := r.add(ctx, parts, refused); errors.Is(err, errEnough) {
		refused.Rest = true
		return refused
	} else if err != nil {
		return err
	}
	if err := r.misplaced(ctx, parts, refused); err != nil {
		return err
	}
	if len(refused.Why) > 0 {
		return refused
	}
	return nil
}

// add adds partitions. Where all together are refused, it finds out which of them are, one by one: each refusal takes its time.
func (r *register) add(ctx context.Context, parts []Partition, refused *RefusedPartitions) error {
	all := make([]metastore.Partition, len(parts))
	for i, p := range parts {
		all[i] = metastore.Partition{Values: values(p), Location: r.at(p)}
	}
	err := r.AddPartitions(ctx, r.db, r.table, all)
	switch {
	case err == nil:
		return nil
	case metastore.Absent(err):
		return fmt.Errorf("%w. `keystone apply` makes the table", err)
	case !r.refuses(ctx, err):
		return err
	case len(parts) == 1:
		refused.Why[parts[0].Path] = err
		return nil
	}
	for i := range parts {
		if len(refused.Why) >= refusalsMost {
			return errEnough
		}
		if err := r.add(ctx, parts[i:i+1], refused); err != nil {
			return err
		}
	}
	return nil
}

// refuses tells a refusal from an outage. A metastore tries what its database refuses again and again, often for longer
// than anybody waits: where it answers something else meanwhile, that was a refusal, too.
func (r *register) refuses(ctx context.Context, err error) bool {
	var no *metastore.RefusedError
	if errors.As(err, &no) {
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	t, err := r.Table(ctx, r.db, r.table)
	return err == nil && t != nil
}

// misplaced finds partitions that the metastore has elsewhere: their readers do not see our files.
func (r *register) misplaced(ctx context.Context, parts []Partition, refused *RefusedPartitions) error {
	paths := make([]string, len(parts))
	want := map[string]Partition{}
	for i, p := range parts {
		paths[i] = p.Path
		want[strings.Join(values(p), "/\x00")] = p
	}
	there, err := r.NamedPartitions(ctx, r.db, r.table, paths)
	if err != nil {
		return err
	}
	for _, have := range there {
		p, ok := want[strings.Join(have.Values, "/\x00")]
		if ok && !sameURI(have.Location, r.at(p)) && !strings.HasPrefix(plainURI(have.Location), plainURI(r.uri)+"/"+chain.CompactedRoot+"/"+p.Path+"/") {
			refused.Why[p.Path] = fmt.Errorf("the metastore has this partition at %s, so readers of the table do not see what is in %s. Move it (ALTER TABLE %s.%s PARTITION (…) SET LOCATION) or its files", have.Location, r.at(p), r.db, r.table)
		}
	}
	return nil
}

func (r *register) at(p Partition) string {
	if p.Folder != "" {
		return r.uri + "/" + p.Folder
	}
	return r.uri + "/" + p.Path
}

var _ Mover = (*register)(nil)

// Located gives the folders of partitions.
func (r *register) Located(ctx context.Context, dirs []string) (map[string]string, error) {
	there, err := r.NamedPartitions(ctx, r.db, r.table, dirs)
	if err != nil {
		return nil, err
	}
	byValues := map[string]string{}
	for _, dir := range dirs {
		byValues[strings.Join(values(Partition{Values: valuesOf(dir)}), "/\x00")] = dir
	}
	out := map[string]string{}
	for _, have := range there {
		if dir, ok := byValues[strings.Join(have.Values, "/\x00")]; ok {
			folder, below := strings.CutPrefix(plainURI(have.Location), plainURI(r.uri)+"/")
			if !below {
				folder = ""
			}
			out[dir] = folder
		}
	}
	return out, nil
}

// Move moves a partition.
func (r *register) Move(ctx context.Context, dir, from, to string, number int64) error {
	p := metastore.Partition{Values: values(Partition{Values: valuesOf(dir)}), Location: r.uri + "/" + to, Parameters: map[string]string{"keystone.compaction": strconv.FormatInt(number, 10)}}
	at, moved, err := r.Client.Move(ctx, r.db, r.table, p, func(location string) bool { return sameURI(location, r.uri+"/"+from) })
	if err != nil {
		return err
	}
	if !moved && !sameURI(at, p.Location) {
		return fmt.Errorf("the metastore has it at %s by now, and no more at %s: it is not moved", at, r.uri+"/"+from)
	}
	return nil
}

// values gives a partition's values as the metastore has them.
func values(p Partition) []string {
	out := make([]string, len(p.Values))
	for i, v := range p.Values {
		if out[i] = v.Value; v.Null || v.Value == "" {
			out[i] = storage.DefaultPartition
		}
	}
	return out
}

// Trailing says which partitions are not registered though they have files, and why.
func (s *Sink) Trailing() error {
	err := s.catalog.trouble()
	if k := s.compactor; k != nil {
		err = errors.Join(err, k.trouble())
	}
	return err
}

var (
	_ sinks.Trailing = (*Sink)(nil)
	_ sinks.Measured = (*Sink)(nil)
)

// Measures counts what is not registered, and what was compacted.
func (s *Sink) Measures() map[string]float64 {
	if s.catalog.r == nil {
		return nil
	}
	pending, refused := s.catalog.waiting()
	out := map[string]float64{"partitions_pending": float64(pending), "partitions_refused": float64(refused)}
	if k := s.compactor; k != nil {
		k.measure(out)
	}
	return out
}
