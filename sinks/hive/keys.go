package hive

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sources/hive/metastore"
)

// keyTypes are the types of partition keys that all readers take alike from the name of a folder. Integers have
// their bits.
var keyTypes = map[string]int{"string": 0, "date": 0, "tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}

const keyTypeList = "string, date, int, bigint, smallint or tinyint"

// checkKeyTypes reports what partition_types cannot say.
func (c *Config) checkKeyTypes() (ds diag.Diagnostics) {
	bad := func(format string, a ...any) {
		ds.AddOptionf("partition_types", codePartition, "Invalid type of a partition", format, a...)
	}
	if len(c.PartitionTypes) > 0 && c.Metastore.Address == "" {
		bad("partition_types is what a metastore keeps of the partitions, and none is named. Name one, or leave it out.")
	}
	for _, name := range slices.Sorted(maps.Keys(c.PartitionTypes)) {
		if !slices.ContainsFunc(c.PartitionBy, func(f spec.Field) bool { return f.Name == name }) {
			bad("partition_types names %q, which is not in partition_by.", name)
		}
		if _, ok := keyTypes[c.PartitionTypes[name]]; !ok {
			bad("partition_types: %s = %q: a partition is of type %s.", name, c.PartitionTypes[name], keyTypeList)
		}
	}
	return ds
}

// keyType gives the type of a partition key.
func (c *Config) keyType(name string) string {
	if t := c.PartitionTypes[name]; t != "" {
		return t
	}
	return "string"
}

// keys gives the partition keys.
func (c *Config) keys() []metastore.Column {
	var out []metastore.Column
	for _, f := range c.PartitionBy {
		out = append(out, metastore.Column{Name: f.Name, Type: c.keyType(f.Name)})
	}
	return out
}

// key is a partition key whose values are not text.
type key struct {
	name, typ string
}

// typedKeys gives the keys in their order; nil if all are text.
func (c *Config) typedKeys() []key {
	var out []key
	typed := false
	for _, f := range c.PartitionBy {
		k := key{f.Name, c.keyType(f.Name)}
		typed = typed || k.typ != "string"
		out = append(out, k)
	}
	if !typed {
		return nil
	}
	return out
}

// write gives a value as Hive writes it: the hour 03 of type int is 3, so that there is one folder for it. why
// says why it is none.
func (k key) write(value []byte) (text []byte, why string) {
	if len(value) == 0 || k.typ == "string" {
		return value, ""
	}
	no := func(hint string) string {
		return fmt.Sprintf("the partition %s is of type %s, and its value is %.100q%s", k.name, k.typ, value, hint)
	}
	if k.typ == "date" {
		t, err := time.Parse(time.DateOnly, string(value))
		if err != nil || t.Year() < 1 {
			return nil, no("; a date is written 2006-01-02, as format_time(ts, '2006-01-02') does")
		}
		return value, ""
	}
	n, err := strconv.ParseInt(string(value), 10, keyTypes[k.typ])
	if err != nil {
		return nil, no("")
	}
	return strconv.AppendInt(nil, n, 10), ""
}
