package metastore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	hms "github.com/beltran/gohive/hive_metastore"
)

// Column is a column of a table, with its type in Hive's words: "bigint", "struct<os:string>".
type Column struct {
	Name string // lower case: the metastore keeps no other
	Type string
}

// Table is an external table of Parquet files.
type Table struct {
	DB, Name   string
	Location   string // a URI: file:///warehouse/events, s3://bucket/events
	Columns    []Column
	Partitions []Column // the keys
	Parameters map[string]string

	// Of a table that exists: what it is. A table that is not external, or of other
	// files, is left alone.
	External bool
	Parquet  bool
}

// Name gives DB.NAME split; the database is "default" where there is none.
func Name(table string) (db, name string) {
	if db, name, ok := strings.Cut(table, "."); ok {
		return db, name
	}
	return "default", table
}

const (
	parquetInput  = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
	parquetOutput = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"
	parquetSerde  = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
)

// HasDatabase tells whether a database exists.
func (c *Client) HasDatabase(ctx context.Context, name string) (found bool, err error) {
	err = c.call(ctx, "look up database "+name, func(ctx context.Context, x *conn) error {
		_, err := x.GetDatabase(ctx, name)
		found = err == nil
		return unless[*hms.NoSuchObjectException](err)
	})
	return found, err
}

// EnsureDatabase makes a database where it is missing. Its folder, for tables that others make in it, is
// where the metastore has those of databases: beside that of the database "default".
func (c *Client) EnsureDatabase(ctx context.Context, name string) error {
	has, err := c.HasDatabase(ctx, name)
	if has || err != nil {
		return err
	}
	return c.call(ctx, "create database "+name, func(ctx context.Context, x *conn) error {
		standard, err := x.GetDatabase(ctx, "default")
		if err != nil {
			return err
		}
		return unless[*hms.AlreadyExistsException](x.CreateDatabase(ctx, &hms.Database{
			Name: name, LocationUri: strings.TrimSuffix(standard.LocationUri, "/") + "/" + name + ".db",
			Parameters: map[string]string{"created_by": "keystone"},
		}))
	})
}

// unless gives err, but for one of the type E: what was wanted is so already.
func unless[E error](err error) error {
	var e E
	if errors.As(err, &e) {
		return nil
	}
	return err
}

// Table looks up a table; nil if there is none.
func (c *Client) Table(ctx context.Context, db, name string) (t *Table, err error) {
	err = c.call(ctx, fmt.Sprintf("look up table %s.%s", db, name), func(ctx context.Context, x *conn) error {
		t = nil
		have, err := x.GetTable(ctx, db, name)
		if err == nil {
			t = tableOf(have)
		}
		return unless[*hms.NoSuchObjectException](err)
	})
	return t, err
}

func tableOf(t *hms.Table) *Table {
	out := &Table{DB: t.DbName, Name: t.TableName, Partitions: columnsOf(t.PartitionKeys), Parameters: t.Parameters,
		External: t.TableType == "EXTERNAL_TABLE"}
	if sd := t.Sd; sd != nil {
		out.Location, out.Columns, out.Parquet = sd.Location, columnsOf(sd.Cols), sd.InputFormat == parquetInput
	}
	return out
}

func columnsOf(fields []*hms.FieldSchema) []Column {
	out := make([]Column, len(fields))
	for i, f := range fields {
		out[i] = Column{f.Name, f.Type}
	}
	return out
}

func fieldsOf(cols []Column) []*hms.FieldSchema {
	out := make([]*hms.FieldSchema, len(cols))
	for i, c := range cols {
		out[i] = &hms.FieldSchema{Name: c.Name, Type: c.Type}
	}
	return out
}

func descriptor(cols []*hms.FieldSchema, location string) *hms.StorageDescriptor {
	return &hms.StorageDescriptor{Cols: cols, Location: location, InputFormat: parquetInput, OutputFormat: parquetOutput,
		SerdeInfo: &hms.SerDeInfo{SerializationLib: parquetSerde, Parameters: map[string]string{"serialization.format": "1"}}}
}

// CreateTable makes an external table of Parquet files. One that exists stays as it is.
func (c *Client) CreateTable(ctx context.Context, t Table) error {
	parameters := map[string]string{"EXTERNAL": "TRUE", "created_by": "keystone"}
	maps.Copy(parameters, t.Parameters)
	return c.call(ctx, fmt.Sprintf("create table %s.%s", t.DB, t.Name), func(ctx context.Context, x *conn) error {
		return unless[*hms.AlreadyExistsException](x.CreateTable(ctx, &hms.Table{
			DbName: t.DB, TableName: t.Name, TableType: "EXTERNAL_TABLE", Owner: "keystone",
			Sd: descriptor(fieldsOf(t.Columns), t.Location), PartitionKeys: fieldsOf(t.Partitions), Parameters: parameters,
		}))
	})
}

// SetColumns gives a table, and all its partitions, other columns. The rest of it stays as it is.
func (c *Client) SetColumns(ctx context.Context, db, name string, cols []Column) error {
	return c.call(ctx, fmt.Sprintf("change the columns of %s.%s", db, name), func(ctx context.Context, x *conn) error {
		t, err := x.GetTable(ctx, db, name)
		if err != nil {
			return err
		}
		comments := map[string]string{}
		for _, f := range t.Sd.Cols {
			comments[f.Name] = f.Comment
		}
		t.Sd.Cols = fieldsOf(cols)
		for _, f := range t.Sd.Cols {
			f.Comment = comments[f.Name]
		}
		return x.AlterTableWithCascade(ctx, db, name, t, true)
	})
}

// DropTable takes a table and its partitions out of the metastore. The files stay.
func (c *Client) DropTable(ctx context.Context, db, name string) error {
	return c.call(ctx, fmt.Sprintf("drop table %s.%s", db, name), func(ctx context.Context, x *conn) error {
		return unless[*hms.NoSuchObjectException](x.DropTable(ctx, db, name, false))
	})
}
