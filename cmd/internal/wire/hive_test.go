package wire

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	parquet "github.com/apache/arrow/go/v15/parquet/file"
	"github.com/twmb/franz-go/pkg/kgo"
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
