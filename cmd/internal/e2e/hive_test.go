package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	parquet "github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

const hiveConfig = `
keystone {
  namespace = %q
}

cluster "main" {
  brokers = [%q]
}

stream "in" {
  topic      = %q
  partitions = 4
  schema     = object({ p = int, seq = int, kind = string })
}

sink "hive" "plays" {
  location     = "table"
  partition_by = { tens = "seq %% 10" }
  roll {
    interval = "300ms"
    rows     = 400
  }
}

route "plays" {
  from   = stream.in
  filter = "kind == 'play'"
  to     = sink.plays
  delivery {
    commit_interval = "100ms"
  }
}
`

// table reads the files as Arrow does, and wants no row twice. What is being linked or deleted meanwhile is
// not in the folders of the partitions.
func (f fixture) table(t *testing.T, dir string) (map[event]bool, int) {
	t.Helper()
	rows, files := map[event]bool{}, 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "_keystone":
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		files++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		r, err := parquet.NewParquetReader(bytes.NewReader(text))
		if err != nil {
			return fmt.Errorf("%s is no whole file: %w", path, err)
		}
		reader, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			return err
		}
		table, err := reader.ReadTable(context.Background())
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		defer table.Release()
		column := func(i int) (out []int64) {
			for _, c := range table.Column(i).Data().Chunks() {
				out = append(out, c.(*array.Int64).Int64Values()...)
			}
			return out
		}
		p, seq := column(0), column(1)
		for i := range p {
			e := event{int32(p[i]), int(seq[i]), "play"}
			switch {
			case e.P < 0 || e.P >= f.partitions || e.Seq < 0 || e.Seq >= f.each || e.Seq%5 != 0:
				return fmt.Errorf("%s: a row that should not be there: %+v", path, e)
			case rows[e]:
				return fmt.Errorf("%s: %+v is in the table twice", path, e)
			case filepath.Base(filepath.Dir(path)) != fmt.Sprintf("tens=%d", e.Seq%10):
				return fmt.Errorf("%s has %+v", path, e)
			}
			rows[e] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows, files
}

// TestRealHiveKill kills the program at random moments, while events go from Kafka to a table: at no moment is a
// row there twice or a file in part, and in the end the table is exactly the input.
func TestRealHiveKill(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	f := newFixture(t, addr, 20_000)
	config(t, f.dir, fmt.Sprintf(hiveConfig, f.namespace, addr, f.topic))
	must(t, "fmt", filepath.Join(f.dir, "main.ks.hcl"))
	dir := filepath.Join(f.dir, "table")
	p := serve(t, f.dir)
	p.healthy("route.plays", "running")
	kills, shown := 0, 0
	again := func() {
		p.kill()
		kills++
		rows, _ := f.table(t, dir)
		if len(rows) < shown {
			t.Fatalf("after kill %d the table has %d rows, and had %d before", kills, len(rows), shown)
		}
		shown = len(rows)
		p = serve(t, f.dir)
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	f.produce(t, client(t, addr), func(sent int) {
		<-time.After(time.Duration(random.IntN(700)) * time.Millisecond) // the fault's moment
		again()
		if sent%5000 == 0 {
			p.healthy("route.plays", "running")
		}
	})
	for range 8 {
		<-time.After(time.Duration(500+random.IntN(2500)) * time.Millisecond)
		again()
	}
	until(t, "the table has everything", func() error {
		rows, _ := f.table(t, dir)
		if len(rows) != f.wanted() {
			return fmt.Errorf("%d of %d rows", len(rows), f.wanted())
		}
		return nil
	})
	p.healthy("route.plays", "running")
	p.stop()
	rows, files := f.table(t, dir)
	if len(rows) != f.wanted() {
		t.Errorf("%d of %d rows", len(rows), f.wanted())
	}
	if err := f.committed(admin(t, addr), f.group); err != nil {
		t.Errorf("the group's position follows the table: %v", err)
	}
	var staged []string
	_ = filepath.WalkDir(filepath.Join(dir, "_keystone", "staging"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			staged = append(staged, strings.TrimPrefix(path, dir))
		}
		return nil
	})
	t.Logf("%d kills; %d files; %d staged files of killed processes wait to be old", kills, files, len(staged))
}
