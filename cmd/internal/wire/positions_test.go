package wire_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keystone/cmd/internal/wire"
	"keystone/configs"
	"keystone/configs/diag"
)

// TestPositionsOfOptions holds that what is wrong with an option of a source or a sink stands at its token, and not at
// the block. In each configuration «…» is around what the problem must be at, from its first byte to its last.
func TestPositionsOfOptions(t *testing.T) {
	hive := func(options string) string { return "sink \"hive\" \"x\" {\n" + options + "\n}\n" }
	elastic := func(options string) string {
		return "sink \"elasticsearch\" \"x\" {\n  index = \"plays\"\n" + options + "\n}\n"
	}
	const node = "  urls = [\"http://127.0.0.1:9200\"]\n"
	for name, c := range map[string]struct {
		src, want string
		hidden    bool
	}{
		"location":           {src: hive(`  location = «"s3a://b/plays"»`), want: "there is no storage"},
		"location's user":    {src: hive(`  location = «"s3://me:hunter2@b/plays"»`), want: "has a user", hidden: true},
		"endpoint":           {src: hive("  location = \"s3://b/plays\"\n  endpoint = «\"minio:9000\"»"), want: "is no address"},
		"region":             {src: hive("  location = \"plays\"\n  region = «\"eu-west-1\"»"), want: "is for s3://"},
		"half a key":         {src: hive("  location = \"s3://b/plays\"\n  secret_key = «env(\"KEY\")»"), want: "go together", hidden: true},
		"table":              {src: hive("  location = \"plays\"\n  table = «\"Plays\"»"), want: "write DATABASE.TABLE"},
		"metastore":          {src: hive("  location = \"plays\"\n  table = \"ads.plays\"\n  metastore = «\"http://meta:9083\"»"), want: "metastore:"},
		"metastore, table":   {src: hive("  location  = \"plays\"\n  metastore = «\"thrift://meta:9083\"»"), want: "knows tables by name"},
		"table_location":     {src: hive("  location = \"plays\"\n  table_location = «\"file:///x\"»"), want: "none is named"},
		"on_destroy":         {src: hive("  location = \"plays\"\n  on_destroy = «\"delete\"»"), want: "none is named"},
		"a reader's place":   {src: hive("  location = «\"azblob://c/plays\"»\n  table = \"ads.plays\"\n  metastore = \"thrift://meta:9083\""), want: "name of its account"},
		"hive as source":     {src: "source \"hive\" \"x\" {\n  metastore = «\"meta\"»\n  table = \"ads.plays\"\n}\n", want: "metastore:"},
		"its table":          {src: "source \"hive\" \"x\" {\n  metastore = \"thrift://meta:9083\"\n  table = «\"a.b.c\"»\n}\n", want: "write DATABASE.TABLE"},
		"parquet":            {src: "source \"parquet\" \"x\" {\n  location = «\"gcs://b/plays\"»\n}\n", want: "Write gs://"},
		"file":               {src: "source \"file\" \"x\" {\n  path = «\"logs/**/*.ndjson\"»\n}\n", want: "** is not supported"},
		"follow":             {src: "source \"file\" \"x\" {\n  path = \"plays.gz\"\n  follow = «true»\n}\n", want: "leave out follow"},
		"generator":          {src: "source \"generator\" \"x\" {\n  start = «\"yesterday\"»\n}\n", want: "not a time"},
		"one of several":     {src: elastic(`  urls = ["http://127.0.0.1:9200", «"127.0.0.1:9201"»]`), want: "no URL with http"},
		"a URL's user":       {src: elastic(`  urls = [«"http://me:hunter2@127.0.0.1"»]`), want: "a URL with a user", hidden: true},
		"a variable's":       {src: "variable \"nodes\" {\n  type = list(string)\n  default = [\"x\"]\n}\n" + elastic(`  urls = «var.nodes»`), want: "no URL with http"},
		"none at all":        {src: elastic(`  urls = «[]»`), want: "urls is empty"},
		"in the clear":       {src: elastic("  urls = [«\"http://search.internal:9200\"»]\n  auth {\n    token = env(\"TOKEN\")\n  }"), want: "without TLS"},
		"action":             {src: elastic(node + "  action = «\"update\"»"), want: "so it needs id"},
		"tls":                {src: elastic(node + "  «tls» {\n  }"), want: "no URL that begins with https"},
		"half a cert":        {src: elastic("  urls = [\"https://s\"]\n  tls {\n    key = «file(\"k.pem\")»\n  }"), want: "go together", hidden: true},
		"verified by nobody": {src: elastic("  urls = [\"https://s\"]\n  tls {\n    ca = file(\"k.pem\")\n    skip_verify = «true»\n  }"), want: "accepts any certificate"},
		"half of a user":     {src: elastic(node + "  auth {\n    username = «\"me\"»\n  }"), want: "go together", hidden: true},
		"two ways":           {src: elastic(node + "  auth {\n    api_key = env(\"KEY\")\n    token = «env(\"TOKEN\")»\n  }"), want: "exactly one", hidden: true},
		"no way":             {src: elastic(node + "  «auth» {\n  }"), want: "exactly one"},
		"lifecycle":          {src: elastic(node + "  «lifecycle» {\n    max_age = \"1d\"\n  }"), want: "Add template"},
		"policy":             {src: elastic(node + "  template {\n  }\n  «lifecycle» {\n  }"), want: "neither when"},
		"patterns":           {src: elastic(node + "  template {\n    patterns = [\"plays\", «\"*\"»]\n  }"), want: "all indices"},
		"fields":             {src: elastic(node + "  template {\n    fields = {\n      title = \"text\"\n      «\"device.os\" = \"colour\"»\n    }\n  }"), want: "colour"},
		"data stream":        {src: elastic(node + "  template {\n    data_stream = «true»\n  }"), want: "new documents alone"},
		"its own alias":      {src: elastic(node + "  template {\n    aliases = [«\"plays\"»]\n  }"), want: "index names already"},
		"rolled, and named":  {src: "sink \"elasticsearch\" \"x\" {\n  index = \"plays-{day}\"\n" + node + "  template {\n  }\n  lifecycle {\n    max_size = «\"1GiB\"»\n  }\n}\n", want: "begins indices by what events say"},
	} {
		t.Run(name, func(t *testing.T) {
			before, rest, _ := strings.Cut(c.src, "«")
			token, after, ok := strings.Cut(rest, "»")
			if !ok {
				t.Fatal("the case marks no token")
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "main.ks.hcl"), []byte(before+token+after), 0o600); err != nil {
				t.Fatal(err)
			}
			_, diags := configs.Load(configs.LoadOptions{Dir: dir, Catalog: wire.Catalog()})
			var found diag.Diagnostics
			for _, d := range diags {
				if strings.Contains(d.Detail, c.want) {
					found = append(found, d)
				}
			}
			if len(found) != 1 {
				t.Fatalf("%d problems say %q, want 1; all are\n%v", len(found), c.want, diags)
			}
			d := found[0]
			line, start := 1+strings.Count(before, "\n"), len(before)
			if r := d.Range; r.Start.Byte != start || r.End.Byte != start+len(token) || r.Start.Line != line || r.Start.Column != start-strings.LastIndex(before, "\n") {
				t.Errorf("%v\nstands at %s, bytes %d to %d; want line %d, bytes %d to %d", d, r, r.Start.Byte, r.End.Byte, line, start, start+len(token))
			}
			if d.Hidden != c.hidden {
				t.Errorf("%v\nhides its source: %t, want %t", d, d.Hidden, c.hidden)
			}
			if d.Option != "" {
				t.Errorf("the option %q is still to be located", d.Option)
			}
		})
	}
}
