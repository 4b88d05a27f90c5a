package hive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"keystone/dsl/types"
	"keystone/sinks"
	"keystone/sinks/hive/rows"
	"keystone/sources/hive/chain"
	"keystone/sources/hive/metastore"
	"keystone/sources/hive/storage"
)

var _ sinks.Provisioner = (*Config)(nil)

// A parameter of the table says that the partitions whose files were there before are registered.
const (
	scanned    = "keystone.partitions"
	scannedYes = "registered"
	madeBy     = "created_by"
	us         = "keystone"
)

// Wanted names the database and the table.
func (c *Config) Wanted(_ sinks.Deps, events []types.Type) []sinks.Thing {
	if c.Metastore.Address == "" || len(events) == 0 {
		return nil
	}
	db, _ := metastore.Name(c.Table)
	return []sinks.Thing{{Kind: "database", Name: db}, {Kind: "table", Name: c.Table}}
}

// Observe asks the metastore.
func (c *Config) Observe(ctx context.Context, d sinks.Deps, events []types.Type) ([]sinks.Thing, error) {
	things := c.Wanted(d, events)
	if len(things) == 0 {
		return nil, nil
	}
	r, err := c.register(d)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // nothing is on its way
	if things[0].Exists, err = r.HasDatabase(ctx, r.db); err != nil {
		return nil, err
	}
	p, err := c.look(ctx, r, events)
	if err != nil {
		return nil, err
	}
	things[1] = p.Thing
	return things, nil
}

// prospect is a table as it is, and the columns that it is to have.
type prospect struct {
	sinks.Thing
	columns []metastore.Column
	evolves bool // columns are not what the table has
	scan    bool
}

// look compares the table with what the routes write.
func (c *Config) look(ctx context.Context, r *register, events []types.Type) (prospect, error) {
	p := prospect{Thing: sinks.Thing{Kind: "table", Name: c.Table}, scan: len(c.PartitionBy) > 0}
	want, why := c.columns(events)
	t, err := r.Table(ctx, r.db, r.table)
	if err != nil {
		return p, err
	}
	p.Exists, p.Blocked, p.columns = t != nil, why, want
	if t == nil || why != "" {
		return p, nil
	}
	if p.Blocked = c.contradiction(t, r.uri); p.Blocked != "" {
		return p, nil
	}
	columns, changes, conflicts := metastore.Evolve(t.Columns, want)
	if len(conflicts) > 0 {
		p.Blocked = strings.Join(conflicts, "; ") + ": readers refuse the files that are there. Keep the type, give the field another name in project, which makes a new column, or write to another table and location"
		return p, nil
	}
	p.columns, p.evolves, p.Differs = columns, len(changes) > 0, changes
	if p.scan = p.scan && t.Parameters[scanned] != scannedYes; p.scan {
		p.Differs = append(p.Differs, "partitions that had files before may not be registered")
	}
	return p, nil
}

// contradiction says what of a table no change of columns mends.
func (c *Config) contradiction(t *metastore.Table, uri string) string {
	elsewhere := "; name another table, or drop this one (its files stay if it is external)"
	switch {
	case !t.External:
		return "it is not an external table, so the metastore takes its files for its own" + elsewhere
	case !t.Parquet:
		return "its files are not Parquet" + elsewhere
	case !sameURI(t.Location, uri):
		return fmt.Sprintf("it is at %s, and the sink writes to %s. If that is the same place in other words, say so in table_location; otherwise name another table, or move this one (ALTER TABLE %s SET LOCATION)", t.Location, uri, c.Table)
	}
	if have, want := keyText(t.Partitions), keyText(c.keys()); have != want {
		return fmt.Sprintf("it is partitioned by %s, and the sink by %s: partition keys never change. Write partition_by and partition_types so, or name another table and location", have, want)
	}
	return ""
}

func keyText(keys []metastore.Column) string {
	if len(keys) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for i, k := range keys {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strings.ToLower(k.Name + " " + k.Type))
	}
	return b.String()
}

// columns unites what the routes write; why says what prevents it.
func (c *Config) columns(events []types.Type) (out []metastore.Column, why string) {
	var all *rows.Schema
	for _, t := range events {
		s, problems := c.schema(t)
		if len(problems) > 0 {
			return nil, problems[0].String()
		}
		if all == nil {
			all = s
			continue
		}
		united, changes, problems := rows.Union(all, s)
		if len(problems) > 0 {
			return nil, "its routes write what is not one table: " + problems[0].String()
		}
		for _, ch := range changes {
			if ch.Note != "" { // both kinds of files are made all the time
				return nil, fmt.Sprintf("its routes write what is not one table: column %s is %s in some and would be %s. %s Convert it in project", ch.Column, ch.From, ch.To, ch.Note)
			}
		}
		all = united
	}
	for _, col := range all.Columns() {
		out = append(out, metastore.Column{Name: strings.ToLower(col.Name), Type: col.Hive})
	}
	return out, ""
}

// Ensure makes the database and the table, gives it new columns, and registers the partitions that have
// files already. Files land without a metastore, so one that is away is no reason to wait.
func (c *Config) Ensure(ctx context.Context, d sinks.Deps, events []types.Type) error {
	err := c.ensure(ctx, d, events)
	var gone *metastore.AwayError
	if errors.As(err, &gone) {
		return sinks.Later{Err: err}
	}
	return err
}

func (c *Config) ensure(ctx context.Context, d sinks.Deps, events []types.Type) error {
	if len(c.Wanted(d, events)) == 0 {
		return nil
	}
	r, err := c.register(d)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // nothing is on its way
	if err := r.EnsureDatabase(ctx, r.db); err != nil {
		return err
	}
	p, err := c.look(ctx, r, events)
	if err != nil {
		return err
	}
	if p.Blocked == "" && !p.Exists {
		err := r.CreateTable(ctx, metastore.Table{DB: r.db, Name: r.table, Location: r.uri, Columns: p.columns, Partitions: c.keys(),
			Parameters: map[string]string{madeBy: us}})
		if err != nil {
			return err
		}
		if p, err = c.look(ctx, r, events); err != nil { // somebody else may have made it
			return err
		}
	}
	if p.Blocked != "" {
		return fmt.Errorf("table %s: %s", c.Table, p.Blocked)
	}
	if p.evolves {
		if err := r.SetColumns(ctx, r.db, r.table, p.columns); err != nil {
			return err
		}
	}
	if !p.scan {
		return nil
	}
	if err := c.scan(ctx, d, r); err != nil {
		return fmt.Errorf("register the partitions of %s that have files: %w", c.Table, err)
	}
	return r.SetParameter(ctx, r.db, r.table, scanned, scannedYes)
}

// scan registers the partitions of files that are there: the table may be younger than they are.
func (c *Config) scan(ctx context.Context, d sinks.Deps, r *register) error {
	st, err := c.Location.Open(ctx, d.Dir, d.Resolve)
	if err != nil {
		return err
	}
	defer st.Close() //nolint:errcheck // only read
	var parts []Partition
	flush := func() error {
		err := r.Register(ctx, parts)
		parts = parts[:0]
		return err
	}
	moved := map[string]string{}
	for p, err := range chain.EachCompacted(ctx, st) {
		if err != nil {
			return err
		}
		if p.Folder() != p.Dir && c.isPartition(p.Dir) {
			moved[p.Dir] = p.Folder()
		}
	}
	last := ""
	for info, err := range st.List(ctx, "") {
		if err != nil {
			return err
		}
		dir := dirOf(info.Name)
		if dir == last || !c.isPartition(dir) || !isData(info.Name) {
			continue
		}
		last = dir
		if parts = append(parts, Partition{Values: valuesOf(dir), Path: dir, Folder: moved[dir]}); len(parts) == registered {
			if err := flush(); err != nil {
				return err
			}
		}
		delete(moved, dir)
	}
	for _, dir := range slices.Sorted(maps.Keys(moved)) { // whose own folders are empty
		if parts = append(parts, Partition{Values: valuesOf(dir), Path: dir, Folder: moved[dir]}); len(parts) == registered {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// isPartition tells the folder of a partition of the table.
func (c *Config) isPartition(dir string) bool {
	parts := strings.Split(dir, "/")
	if len(parts) != len(c.PartitionBy) {
		return false
	}
	for i, p := range parts {
		if name, _, _, ok := storage.ParsePartition(p); !ok || name != c.PartitionBy[i].Name {
			return false
		}
	}
	return true
}

// isData tells a file that readers take for one of the table's.
func isData(path string) bool {
	name := path[strings.LastIndexByte(path, '/')+1:]
	return name != "" && name[0] != '_' && name[0] != '.'
}

// Destroy takes the table out of the metastore if Keystone made it and on_destroy says so. Files and database stay.
func (c *Config) Destroy(ctx context.Context, d sinks.Deps) error {
	if c.Metastore.Address == "" || c.Metastore.OnDestroy != "delete" {
		return nil
	}
	r, err := c.register(d)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // nothing is on its way
	t, err := r.Table(ctx, r.db, r.table)
	switch {
	case err != nil || t == nil:
		return err
	case !t.External || t.Parameters[madeBy] != us || !sameURI(t.Location, r.uri):
		if d.Log != nil {
			d.Log.Warn("the table stays in the metastore: Keystone did not make it, or it is another one by now", "table", c.Table)
		}
		return nil
	}
	return r.DropTable(ctx, r.db, r.table)
}
