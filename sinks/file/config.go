// Package file writes records as lines of files: one file, or one for each
// value of a pattern, numbered when they rotate, packed if wanted.
//
// What a checkpoint covers stays, and what came after it is taken back by the
// next incarnation (journal.go), so that together with the source's positions each
// record is in the files once.
//
// mu of a sink is held while it writes: the lines of one file have one order
// anyway, and a disk that is slow holds back all lanes.
package file

import (
	"path"
	"path/filepath"
	"strings"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sinks"
)

// Kind is the entry of the catalog.
func Kind() sinks.Kind {
	return sinks.Kind{
		Name: "file",
		Cannot: map[string]string{
			"exactly_once": "a file takes part in no transaction of Kafka. From a file source at_least_once is once already",
			"at_most_once": "at each start the files are cut back to what the last stored position says, so the position cannot be stored before the records: the last ones would be lost at every stop. Use at_least_once",
		},
		Letters: "makes lines durable together with the positions of the route that writes it, and a dead letter must be durable before",
		Alone:   "its files are cut back to what was stored last when they are opened",
		Doc: "Writes each record's value as a line of a file (NDJSON). `path` may hold placeholders over the output event, as in \"out/{country}/{ts:2006-01-02}.ndjson\": one file for each value. " +
			"Files are only made below the folder written before the first placeholder; an event whose path would lead out of it, or has an empty part, is refused (a dead letter). " +
			"Folders are made as needed. Existing files are continued. " +
			"At each commit the files are brought to disk and their lengths stored together with the source's positions; after a crash they are cut back to these lengths, so that from a source that can be read again every record is in the files once. A hidden journal (.keystone-….journal) beside the files serves that. " +
			"With rotation a number stands before the extension: plays.000001.ndjson, plays.000002.ndjson; the highest is being written. " +
			"A packed file ends a frame at each commit, so that what is committed can be read. " +
			"Line breaks between the tokens of a JSON document become spaces. A null value is refused: a line has no form for it. " +
			"`keystone run` writes under a hidden temporary name in the same folder (.NAME.keystone-run) and renames when the run is complete, replacing what was there.",
		New: func() sinks.Config { return new(Config) },
	}
}

// Compression says how files are packed.
type Compression string

// The compressions.
const (
	Auto Compression = "auto" // by the end of the name: .gz, .zst
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// of gives what Auto means for a name.
func (c Compression) of(name string) Compression {
	if c != Auto && c != "" {
		return c
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".gz", ".gzip":
		return Gzip
	case ".zst", ".zstd":
		return Zstd
	}
	return None
}

// Newlines says what becomes of a line break inside a value.
type Newlines string

// The policies.
const (
	Space  Newlines = "space"
	Refuse Newlines = "refuse"
)

// Config is the options of sink "file".
type Config struct {
	Path           diag.Text
	Compression    Compression
	RotateBytes    int64
	RotateInterval time.Duration
	MaxOpenFiles   int
	Newlines       Newlines
}

// Options declares them.
func (c *Config) Options() spec.Options {
	return spec.Options{
		spec.Pattern("path", &c.Path, "The file, relative to the configuration's directory; with placeholders, one file for each value.").Required().OverOutput().Eg(`"out/{ts:2006-01-02}.ndjson"`),
		spec.Enum("compression", &c.Compression, "How files are packed; `auto` goes by the end of the name (.gz, .zst).", Auto, None, Gzip, Zstd).Default(Auto),
		spec.Bytes("rotate_bytes", &c.RotateBytes, "Begin a new numbered file before one would become larger; of a packed file, soon after it did. 0 is never.").Default(int64(0)).AtLeast(0).Eg(`"256MiB"`),
		spec.Duration("rotate_interval", &c.RotateInterval, "Begin a new numbered file when one has been written for so long; looked at with each write and commit. 0 is never.").Default(time.Duration(0)).AtLeast(0).Eg(`"1h"`),
		spec.Int("max_open_files", &c.MaxOpenFiles, "Files that are kept open; the one not written to for the longest is closed, and opened again when needed.").Default(64).Between(1, 100_000),
		spec.Enum("newlines", &c.Newlines, "What becomes of a line break inside a value: a space, which means the same in JSON, or the record is refused. Take `refuse` for a route whose format is raw.", Space, Refuse).Default(Space),
	}
}

// Check reports paths that cannot work.
func (c *Config) Check() diag.Diagnostics {
	var ds diag.Diagnostics
	t := parseTarget(c.Path.S)
	switch {
	case c.Path.S == "":
		ds.Addf(c.Path.Range, codePath, "Invalid path of a file sink", "path is empty. Name a file, such as \"out/plays.ndjson\".")
	case strings.HasSuffix(c.Path.S, "/"):
		ds.Addf(c.Path.Range, codePath, "Invalid path of a file sink", "path = %q ends in a slash: that is a folder. Add the name of the file.", c.Path.S)
	case !t.plain && strings.Contains("/"+c.Path.S[len(t.dir):]+"/", "/../"):
		ds.Addf(c.Path.Range, codePath, "Invalid path of a file sink", "path = %q has .. after its first placeholder. Write the folder that files are made in before it.", c.Path.S)
	}
	if strings.HasPrefix(path.Clean(c.Path.S), "/dev/") && (c.RotateBytes > 0 || c.RotateInterval > 0) {
		ds.Addf(c.Path.Range, codeRotate, "Rotation of what is no file", "path = %q is a device. Leave out rotate_bytes and rotate_interval.", c.Path.S)
	}
	return ds
}

// New makes the sink.
func (c *Config) New(d sinks.Deps) (sinks.Sink, error) { return newSink(*c, d), nil }
