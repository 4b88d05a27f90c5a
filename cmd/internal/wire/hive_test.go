package wire

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	parquet "github.com/apache/arrow/go/v15/parquet/file"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/reconcile"
)

const columnsConfig = `
stream "in" {
  partitions = 1
  schema     = object({ id = int, extra = string })
}
sink "hive" "table" {
  location = "table"
  roll {
    interval = "200ms"
  }
}
route "store" {
  from    = stream.in
  project = { %s }
  to      = sink.table
  delivery {
    commit_interval = "100ms"
  }
}
`

// TestColumnsFollowTheProjection edits the projection of a route into a table: what is new gets its column, though a
// change of a projection takes effect while the route runs.
func TestColumnsFollowTheProjection(t *testing.T) {
	l := newLab(t, fmt.Sprintf(columnsConfig, `id = "id"`))
	files := func() (columns []string, rows int64) {
		names, err := filepath.Glob(filepath.Join(l.dir, "table", "*.parquet"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			f, err := parquet.NewParquetReader(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			s := f.MetaData().Schema
			var paths []string
			for i := range s.NumColumns() {
				paths = append(paths, s.Column(i).Path())
			}
			columns = append(columns, fmt.Sprint(paths))
			rows += f.NumRows()
		}
		slices.Sort(columns)
		return slices.Compact(columns), rows
	}
	has := func(want int64) {
		t.Helper()
		l.until(fmt.Sprintf("%d rows", want), func() error {
			if _, rows := files(); rows != want {
				return fmt.Errorf("%d rows", rows)
			}
			return nil
		})
	}
	event := &kgo.Record{Topic: "in", Value: []byte(`{"id":1,"extra":"more"}`)}
	l.produce(event)
	has(1)
	l.change(fmt.Sprintf(columnsConfig, `id = "id", extra = "extra"`), 2)
	l.produce(&kgo.Record{Topic: "in", Value: event.Value})
	has(2)
	if columns, _ := files(); !slices.Equal(columns, []string{"[id extra]", "[id]"}) {
		t.Errorf("the files have columns %v", columns)
	}
}

// TestTableWithoutMetastore starts with a metastore that does not answer: the route writes, and status says of
// the sink what is left to do.
func TestTableWithoutMetastore(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	taken.Close() // nobody listens there
	in := filepath.Join(t.TempDir(), "in.ndjson")
	if err := os.WriteFile(in, []byte(`{"id":1}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t}
	l.ready = func() error {
		_, err := l.client.Status(t.Context())
		return err
	}
	l.open(fmt.Sprintf(`
source "file" "in" {
  path   = %q
  follow = true
}
sink "hive" "table" {
  location     = "table"
  table        = "ads.plays"
  metastore    = "thrift://%s"
  partition_by = { day = "string(id)" }
  roll {
    interval = "200ms"
  }
}
route "store" {
  from    = source.in
  project = { id = "int(id)" }
  to      = sink.table
}
`, in, address))
	l.until("the row lands", func() error {
		if names, err := filepath.Glob(filepath.Join(l.dir, "table", "day=1", "*.parquet")); err != nil || len(names) != 1 {
			return fmt.Errorf("files %q: %w", names, err)
		}
		return nil
	})
	l.until("status says what is missing", func() error {
		s, err := l.client.Status(t.Context())
		if err != nil {
			return err
		}
		for _, a := range s.Addresses {
			if a.Addr == "sink.table" && a.Health == string(reconcile.Degraded) && strings.Contains(a.Error, "no metastore answers") {
				return nil
			}
		}
		return errors.New(fmt.Sprint(s.Addresses))
	})
}
