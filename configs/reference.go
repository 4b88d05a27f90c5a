package configs

import (
	"keystone/configs/spec"
)

// BlockDoc documents a type of top-level block: what the reference has a page of.
type BlockDoc struct {
	Type    string
	Kind    string // of a source or sink, from the catalog
	Header  string // as it is written: sink "file" "NAME"
	Doc     string
	ForEach bool // takes for_each
	// Options are the declared options. They are bound to a block that
	// nobody else has. For blocks that HCL itself reads they are empty, and
	// Words has the names with their texts.
	Options spec.Options
	Words   []WordDoc
	Example string // of HCL, formatted
}

// WordDoc documents a name in a block that is not decoded by declared options.
type WordDoc struct{ Name, Doc string }

// Blocks documents every top-level block of this version, with the kinds of
// sources and sinks in the catalog.
func Blocks(catalog Catalog) []BlockDoc {
	blocks := []BlockDoc{
		{Type: "keystone", Header: "keystone", Doc: "What holds for the whole configuration. It is written at most once.", Options: new(Settings).Options(),
			Example: "keystone {\n  namespace = \"ads\"\n}\n"},
		{Type: "variable", Header: `variable "NAME"`, Doc: "An input. Weakest first its value comes from default, KEYSTONE_VAR_NAME, keystone.ksvars, ENV.ksvars, *.auto.ksvars, -var-file, -var. It is used as var.NAME, in expressions too.",
			Words: []WordDoc{
				{"type", "Terraform's types: string, number, bool, any, list(T), set(T), map(T), tuple([T…]), object({ name = T, other = optional(T, default) })."},
				{"default", "Its value where nothing else gives one. Without a default a value is required, unless the variable is sensitive."},
				{"description", "What it is for."},
				{"sensitive", "With true it may only stand in options that are declared secret, and stays a reference there."},
				{"nullable", "With false null is refused."},
				{"validation { condition error_message }", "The value must make the condition true. May be written several times."},
			},
			Example: "variable \"region\" {\n  type    = string\n  default = \"us-east-1\"\n  validation {\n    condition     = startswith(var.region, \"us-\")\n    error_message = \"Only regions in the US.\"\n  }\n}\n"},
		{Type: "locals", Header: "locals", Doc: "Values with names, used as local.NAME: also texts of expressions, maps of expressions and types, which other blocks then share. May be written several times.",
			Example: "locals {\n  is_tv = \"device.type == 'tv'\"\n}\n"},
		{Type: "defaults", Header: "defaults", Doc: "Options for all blocks of a type, or of a kind of source or sink; a block's own are stronger. It is written at most once, with blocks cluster, stream, route, job, source \"KIND\" and sink \"KIND\".",
			Example: "defaults {\n  route {\n    on_error = \"drop\"\n  }\n  sink \"file\" {\n    path = \"out/{country}.ndjson\"\n  }\n}\n"},
		{Type: "cluster", Header: `cluster "NAME"`, Doc: "A Kafka cluster. Without any the broker inside the process is used.", ForEach: true, Options: new(Cluster).Options(),
			Example: "cluster \"main\" {\n  brokers = [\"127.0.0.1:9092\"]\n}\n"},
		{Type: "stream", Header: `stream "NAME"`, Doc: "A topic with what is known of its events. Routes read and write it.", ForEach: true, Options: new(Stream).Options(),
			Example: "stream \"playback\" {\n  partitions = 8\n  retention  = \"24h\"\n}\n"},
	}
	for _, k := range catalog.Sources {
		blocks = append(blocks, BlockDoc{Type: "source", Kind: k.Name, Header: `source "` + k.Name + `" "NAME"`, Doc: k.Doc, ForEach: true, Options: sourceOptions(&Source{}, k.New().Options())})
	}
	for _, k := range catalog.Sinks {
		blocks = append(blocks, BlockDoc{Type: "sink", Kind: k.Name, Header: `sink "` + k.Name + `" "NAME"`, Doc: k.Doc, ForEach: true, Options: k.New().Options()})
	}
	return append(blocks,
		BlockDoc{Type: "route", Header: `route "NAME"`, Doc: "One pipeline: it reads a stream or source, passes what its filter lets through, projected, to a sink or stream. Fan-out is several routes.", ForEach: true, Options: new(Route).Options(),
			Example: "route \"tv_plays\" {\n  from    = stream.playback\n  filter  = \"device.type == 'tv' && position_ms > 1000\"\n  project = { user = \"user_id\", pct = \"position_ms / duration_ms * 100\" }\n  to      = sink.search\n}\n"},
		BlockDoc{Type: "job", Header: `job "NAME"`, Doc: "Operators with state, wired into a graph: each names its inputs, which are operators of the same job. Options of an operator are documented below; expressions see the rows that come in.", ForEach: true, Options: new(Job).Options(),
			Example: jobExample},
		BlockDoc{Type: "moved", Header: "moved", Doc: "A block has a new name: its consumer group, positions, dead letters and state go along.",
			Words:   []WordDoc{{"from", "The address that it had: route.old, or route.old[\"KEY\"]."}, {"to", "The address that it has now."}},
			Example: "moved {\n  from = route.plays\n  to   = route.tv_plays\n}\n"},
		BlockDoc{Type: "removed", Header: "removed", Doc: "A block is let go of: what it kept stays where it is, unless destroy is true.",
			Words:   []WordDoc{{"from", "The address that is no longer declared."}, {"destroy", "With true what it kept is deleted. false unless said."}},
			Example: "removed {\n  from = stream.old\n}\n"},
	)
}

const jobExample = `job "plays" {
  read "plays" {
    from       = stream.playback
    event_time = "ts"
    watermark  = "10s"
  }
  window "per_title" {
    input     = read.plays
    key       = { title = "title_id" }
    aggregate = { plays = "count()", watched = "sum(position_ms)" }
    tumbling {
      size = "1m"
    }
  }
  write "out" {
    input = window.per_title
    to    = stream.plays
  }
}
`
