package rows

import (
	"bytes"
	"encoding/hex"
	stdjson "encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"keystone/dsl/types"
)

const realType = `object({id = int, name = optional(string), kind = string, ok = bool, f = float, small = decimal(7, 2), large = optional(decimal(38, 10)),
	ms = timestamp_ms, stamp = optional(timestamp_rfc3339), day = date, raw = optional(bytes), tags = list(string), days = optional(list(list(date))), attrs = map(int),
	device = optional(object({os = string, versions = optional(list(object({v = string, n = optional(int)})))})), more = any})`

// readers asks programs that are not ours; readers.sh says how.
func readers(t *testing.T, args ...string) [][]byte {
	t.Helper()
	return run(t, exec.CommandContext(t.Context(), os.Getenv("KEYSTONE_TEST_READERS"), append([]string{"read"}, args...)...))
}

func run(t *testing.T, cmd *exec.Cmd) [][]byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.Bytes())
	}
	return bytes.Split(bytes.TrimSpace(out), []byte("\n"))
}

func decode(t *testing.T, line []byte, v any) {
	t.Helper()
	d := stdjson.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v: %.200s", err, line)
	}
}

// realFile writes events and gives what they are worth.
func realFile(t *testing.T, path string, typ types.Type, n int, opts Options) ([]any, FileStats) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	world := &world{Rand: rand.New(rand.NewPCG(7, 7))}
	w := NewWriter(f, mustSchema(t, typ), opts)
	var want []any
	rest := types.ObjectOf(typ.Fields[1:]...)
	for len(want) < n {
		world.few = len(want)%3 == 0
		event := strings.Replace(world.object(rest), "{", fmt.Sprintf(`{"id":%d,`, len(want)), 1)
		row, fits := expected(typ, event)
		if err := w.Append([]byte(event)); (err == nil) != fits {
			t.Fatalf("%v: %s", err, event)
		}
		if fits { // a repeated key may leave what does not
			want = append(want, row)
		}
	}
	stats, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return want, stats
}

// told gives a value that a reader has printed in the form of worth.
func told(t *testing.T, typ types.Type, v any) any {
	t.Helper()
	if v == nil {
		return nil
	}
	must := func(err error) {
		if err != nil {
			t.Fatalf("%s: %v of %v", typ, err, v)
		}
	}
	switch typ.Kind {
	case types.Int:
		n, err := v.(stdjson.Number).Int64()
		must(err)
		return n
	case types.Float:
		n, err := v.(stdjson.Number).Float64()
		must(err)
		return n
	case types.Decimal:
		d, ok := new(big.Rat).SetString(v.(string))
		if !ok {
			t.Fatalf("%s: %v", typ, v)
		}
		d.Mul(d, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(typ.Scale)), nil)))
		return d.Num().String()
	case types.TimestampMs, types.TimestampRFC3339:
		at, err := time.Parse(time.RFC3339Nano, v.(string))
		must(err)
		return at.UnixMicro()
	case types.Date:
		at, err := time.Parse(time.DateOnly, v.(string))
		must(err)
		return at.Unix() / 86400
	case types.Bytes:
		b, err := hex.DecodeString(v.(string))
		must(err)
		return string(b)
	case types.List:
		out := []any{}
		for _, e := range v.([]any) {
			out = append(out, told(t, *typ.Elem, e))
		}
		return out
	case types.Map:
		out := map[string]any{}
		if pairs, is := v.([]any); is { // PyArrow's form
			for _, p := range pairs {
				out[p.([]any)[0].(string)] = told(t, *typ.Elem, p.([]any)[1])
			}
			return out
		}
		for k, e := range v.(map[string]any) {
			out[k] = told(t, *typ.Elem, e)
		}
		return out
	case types.Object:
		out := map[string]any{}
		for _, f := range typ.Fields {
			out[f.Name] = told(t, f.Type, v.(map[string]any)[f.Name])
		}
		return out
	case types.Any:
		var out any
		decode(t, []byte(v.(string)), &out)
		return out
	}
	return v
}

type printed struct {
	Columns [][2]string
	Rows    [][]any
}

func (p *printed) same(t *testing.T, who string, typ types.Type, want []any) {
	t.Helper()
	if len(p.Rows) != len(want) {
		t.Errorf("%s: %d rows, want %d", who, len(p.Rows), len(want))
		return
	}
	for i, cells := range p.Rows {
		row := map[string]any{}
		for j, c := range p.Columns {
			f, _ := typ.Field(c[0])
			row[c[0]] = told(t, f.Type, cells[j])
		}
		if !reflect.DeepEqual(row, want[i]) {
			t.Errorf("%s: row %d:\n%v\nwant\n%v", who, i, row, want[i])
			return
		}
	}
}

func (p *printed) types() string {
	var s []string
	for _, c := range p.Columns {
		s = append(s, c[0]+" "+c[1])
	}
	return strings.Join(s, "; ")
}

// TestRealReaders has DuckDB and PyArrow read files back: every value, every type, the statistics.
func TestRealReaders(t *testing.T) {
	readersOrSkip(t)
	typ := parse(t, realType)
	for _, c := range []Compression{Zstd, Snappy, None} {
		t.Run(string(c), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.parquet")
			want, stats := realFile(t, path, typ, 3000, Options{Compression: c, PageBytes: 8 << 10, RowGroupRows: 1100})
			var p printed
			decode(t, readers(t, "rows", path)[0], &p)
			p.same(t, "PyArrow", typ, want)
			const arrowTypes = "id int64; name string; kind string; ok bool; f double; small decimal128(7, 2); large decimal128(38, 10); ms timestamp[us, tz=UTC]; stamp timestamp[us, tz=UTC]; day date32[day]; raw binary; " +
				"tags list<element: string>; days list<element: list<element: date32[day]>>; attrs map<string, int64 ('attrs')>; device struct<os: string not null, versions: list<element: struct<v: string not null, n: int64>>>; more string"
			if got := p.types(); got != arrowTypes {
				t.Errorf("PyArrow's types:\n%s\nwant\n%s", got, arrowTypes)
			}
			p = printed{}
			decode(t, readers(t, "duckdb", "SELECT * FROM '"+path+"'")[0], &p)
			p.same(t, "DuckDB", typ, want)
			const duckTypes = "id BIGINT; name VARCHAR; kind VARCHAR; ok BOOLEAN; f DOUBLE; small DECIMAL(7,2); large DECIMAL(38,10); ms TIMESTAMP WITH TIME ZONE; stamp TIMESTAMP WITH TIME ZONE; day DATE; raw BLOB; " +
				"tags VARCHAR[]; days DATE[][]; attrs MAP(VARCHAR, BIGINT); device STRUCT(os VARCHAR, versions STRUCT(v VARCHAR, n BIGINT)[]); more VARCHAR"
			if got := p.types(); got != duckTypes {
				t.Errorf("DuckDB's types:\n%s\nwant\n%s", got, duckTypes)
			}
			if stats.RowGroups != 3 {
				t.Errorf("%d row groups", stats.RowGroups)
			}
			python(t, path, `
import sys, pyarrow.parquet as pq
pq.ParquetFile(sys.argv[1], page_checksum_verification=True).read().validate(full=True)
print("{}")`)
		})
	}
}

// TestRealStatistics compares the statistics in the footer, as PyArrow reads them, with what the
// writer said, and has PyArrow leave out row groups by them.
func TestRealStatistics(t *testing.T) {
	readersOrSkip(t)
	typ := parse(t, realType)
	path := filepath.Join(t.TempDir(), "a.parquet")
	_, stats := realFile(t, path, typ, 2000, Options{})
	type file struct {
		Rows      int64
		RowGroups []struct {
			Columns map[string]struct {
				Min, Max any
				Nulls    *int64
			}
		} `json:"row_groups"`
	}
	var files []file
	decode(t, readers(t, "files", path)[0], &files)
	if files[0].Rows != stats.Rows || len(files[0].RowGroups) != 1 {
		t.Fatalf("%+v, said %+v", files, stats)
	}
	s := mustSchema(t, typ)
	for i, c := range stats.Columns {
		leaf := s.leaves[i]
		got := files[0].RowGroups[0].Columns[c.Path]
		if got.Nulls == nil || *got.Nulls != c.Nulls {
			t.Errorf("%s: %v nulls, said %d", c.Path, got.Nulls, c.Nulls)
		}
		as := leaf.typ()
		if as.Kind == types.Any {
			as = types.StringType
		}
		for _, b := range []struct {
			told any
			said *string
		}{{got.Min, c.Min}, {got.Max, c.Max}} {
			if b.said == nil {
				t.Fatalf("%s has no bounds", c.Path)
			}
			value := any(*b.said)
			switch {
			case as.IsNumber():
				value = stdjson.Number(*b.said)
			case as.Kind == types.Bool:
				value = *b.said == "true"
			case as.Kind == types.TimestampMs:
				as = types.TimestampRFC
			}
			if want, fits := worth(as, value); !fits || !reflect.DeepEqual(told(t, as, b.told), want) {
				t.Errorf("%s: bound %v, said %s", c.Path, b.told, *b.said)
			}
		}
	}

	path = filepath.Join(t.TempDir(), "b.parquet")
	realFile(t, path, typ, 4000, Options{RowGroupRows: 500})
	var kept struct{ All, ID, Kind, Small int }
	decode(t, python(t, path, `
import sys, json, decimal, pyarrow.dataset as ds
f, = ds.dataset(sys.argv[1]).get_fragments()
n = lambda e: len(f.subset(e).row_groups)
print(json.dumps({"All": n(ds.scalar(True)), "ID": n((ds.field("id") >= 1100) & (ds.field("id") < 1600)), "Kind": n(ds.field("kind") > "\U0010ffff"), "Small": n(ds.field("small") > decimal.Decimal("99999.99"))}))`), &kept)
	if kept.All != 8 || kept.ID != 2 || kept.Kind != 0 || kept.Small != 0 {
		t.Errorf("row groups that are left: %+v", kept)
	}
}

// TestRealSpark has Spark read a table whose columns are in our words for Hive's types.
func TestRealSpark(t *testing.T) {
	readersOrSkip(t)
	if os.Getenv("KEYSTONE_TEST_METASTORE") == "" {
		t.Skip("needs a metastore: .testenv/with-metastore .testenv/with-readers go test -run Real ./sinks/hive/rows")
	}
	typ := parse(t, realType)
	dir, err := os.MkdirTemp(os.Getenv("KEYSTONE_TEST_WAREHOUSE"), "rows-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a temporary folder
	want, _ := realFile(t, filepath.Join(dir, "a.parquet"), typ, 1000, Options{})
	var columns []string
	for _, c := range mustSchema(t, typ).Columns() {
		columns = append(columns, c.Name+" "+c.Hive)
	}
	table := "rows_" + strconv.Itoa(os.Getpid())
	lines := readers(t, "spark",
		"CREATE EXTERNAL TABLE "+table+" ("+strings.Join(columns, ", ")+") STORED AS PARQUET LOCATION 'file://"+dir+"'",
		"SELECT * FROM "+table+" ORDER BY id", "SELECT count(*), count(name), max(large), min(ms) FROM "+table+" WHERE id >= 500 AND day < '2100-01-01'", "DROP TABLE "+table)
	var p printed
	decode(t, lines[1], &p)
	p.same(t, "Spark", typ, want)
	const sparkTypes = "id bigint; name string; kind string; ok boolean; f double; small decimal(7,2); large decimal(38,10); ms timestamp; stamp timestamp; day date; raw binary; " +
		"tags array<string>; days array<array<date>>; attrs map<string,bigint>; device struct<os:string,versions:array<struct<v:string,n:bigint>>>; more string"
	if got := p.types(); got != sparkTypes {
		t.Errorf("Spark's types:\n%s\nwant\n%s", got, sparkTypes)
	}
	decode(t, lines[2], &p)
	if p.Rows[0][0] != stdjson.Number("500") {
		t.Errorf("with a filter Spark finds %v", p.Rows[0])
	}
}

// TestRealSparkWidened has Spark read files from before and after columns were widened, as far as the notes of
// Union say that it can, and DuckDB all of it.
func TestRealSparkWidened(t *testing.T) {
	readersOrSkip(t)
	if os.Getenv("KEYSTONE_TEST_METASTORE") == "" {
		t.Skip("needs a metastore: .testenv/with-metastore .testenv/with-readers go test -run Real ./sinks/hive/rows")
	}
	dir, err := os.MkdirTemp(os.Getenv("KEYSTONE_TEST_WAREHOUSE"), "rows-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a temporary folder
	old := mustSchema(t, parse(t, "object({d = decimal(10, 2), i = int, f = int, gone = string, o = object({a = int})})"))
	now := mustSchema(t, parse(t, "object({d = decimal(12, 4), i = decimal(5, 2), f = float, come = bool, o = object({b = string, a = int})})"))
	both, _, problems := Union(old, now)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for i, f := range []struct {
		s     *Schema
		event string
	}{
		{old, `{"d":1.25,"i":9223372036854775807,"f":7,"gone":"x","o":{"a":1}}`},
		{both, `{"d":1.0625,"i":1.5,"f":0.5,"come":true,"o":{"b":"y","a":2}}`},
		{both, `{"d":-12345678.99,"i":-1,"f":3,"gone":"z","o":{"a":3}}`},
	} {
		out, err := os.Create(filepath.Join(dir, strconv.Itoa(i)+".parquet"))
		if err != nil {
			t.Fatal(err)
		}
		w := NewWriter(out, f.s, Options{})
		if err := w.Append([]byte(f.event)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var columns []string
	for _, c := range both.Columns() {
		columns = append(columns, c.Name+" "+c.Hive)
	}
	table := "widened_" + strconv.Itoa(os.Getpid())
	lines := readers(t, "spark",
		"CREATE EXTERNAL TABLE "+table+" ("+strings.Join(columns, ", ")+") STORED AS PARQUET LOCATION 'file://"+dir+"'",
		"SELECT sum(d), sum(i), count(gone), count(come), sum(o.a), count(o.b) FROM "+table, "DROP TABLE "+table)
	lines = append(lines, readers(t, "duckdb", "SELECT sum(d), sum(i), count(gone), count(come), sum(o.a), count(o.b), sum(f) FROM read_parquet('"+dir+"/*.parquet', union_by_name = true)")...)
	for i, want := range map[int]string{1: "[-12345676.6775 9223372036854775807.50 2 1 6 1]", 3: "[-12345676.6775 9223372036854775807.50 2 1 6 1 10.5]"} {
		var p printed
		decode(t, lines[i], &p)
		if got := fmt.Sprint(p.Rows[0]); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func readersOrSkip(t *testing.T) {
	t.Helper()
	if os.Getenv("KEYSTONE_TEST_READERS") == "" {
		t.Skip("needs DuckDB and PyArrow: .testenv/with-readers go test -run Real ./sinks/hive/rows")
	}
}

// python runs a program with the path as its argument, in the interpreter that has PyArrow.
func python(t *testing.T, path, program string) []byte {
	t.Helper()
	return run(t, exec.CommandContext(t.Context(), os.Getenv("KEYSTONE_TEST_PYTHON"), "-c", program, path))[0]
}
