// Package file reads files of lines: plain, gzip and zstd, once to the end or
// following what is added, across rotation.
//
// A file is one partition. It is known by its identity (see identity.go) and
// not by its name, so that a renamed file is read on and a new one of the same name
// is read from its start. An input belongs to the goroutine that calls Read; mu
// guards what Pause, Resume and Ends share with it, and no I/O happens under it.
package file

import (
	"path/filepath"
	"strings"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/sources"
)

// Kind is the entry of the catalog.
func Kind() sources.Kind {
	return sources.Kind{
		Name:   "file",
		Cannot: map[string]string{"exactly_once": "the positions of files are not kept in Kafka, so no transaction can hold them. Into a file at_least_once is once already; into a stream, repeats carry the same ks-origin"},
		Doc: "Reads files of lines, one JSON document each (NDJSON). `path` may be a pattern; each file is a partition of its own with its own order. " +
			"Reading goes on where it stopped, also in a file that was renamed: a file is known by device, inode and its first bytes, not by its name. " +
			"A carriage return before the line feed is not part of the line, empty lines are skipped, a byte order mark at the start is skipped. " +
			"Without `follow` the source ends at the end of the files, and a last line without line feed counts. " +
			"With `follow` it waits for lines that are added and for files that appear, follows a file that is rotated by renaming to its end, and leaves a last line alone until its line feed is there. " +
			"Plain files only: with `follow`, names in .gz and .zst are passed over, so that a rotated file is not read again once it is compressed. " +
			"A file that is cut back (truncated) is read again from its start, as a new partition; what was added before the cut and not yet read is lost, so rotate by renaming and not by copy-and-truncate.",
		New: func() sources.Config { return new(Config) },
	}
}

// Compression says how the bytes of a file are packed.
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

// Defaults; also of a Config that was made without decoding.
const (
	maxLineBytes = 16 << 20
	maxFiles     = 10_000
	pollInterval = time.Second
)

// Config is the options of source "file".
type Config struct {
	Path         string
	Compression  Compression
	Follow       bool
	MaxLineBytes int64
	MaxFiles     int
	PollInterval time.Duration
	RotateWait   time.Duration
}

// Options declares them.
func (c *Config) Options() spec.Options {
	return spec.Options{
		spec.String("path", &c.Path, "The file, or a pattern with `*`, `?` and `[…]`; relative to the configuration's directory.").Required().Eg(`"logs/*.ndjson"`),
		spec.Enum("compression", &c.Compression, "How files are packed; `auto` goes by the end of the name (.gz, .zst). Files of several frames are read to the last.", Auto, None, Gzip, Zstd).Default(Auto),
		spec.Bool("follow", &c.Follow, "Wait for lines that are added and files that appear, instead of ending.").Default(false),
		spec.Bytes("max_line_bytes", &c.MaxLineBytes, "Longest line. A longer one is not held in memory: its beginning becomes a record that cannot be evaluated, for `on_error`.").Default(int64(maxLineBytes)).Between(1<<10, 1<<30),
		spec.Int("max_files", &c.MaxFiles, "Most files at a time; more stop the route. With `follow` each is kept open.").Default(maxFiles).Between(1, 1_000_000),
		spec.Duration("poll_interval", &c.PollInterval, "With `follow`: how often files are looked at besides listening for changes, which some file systems do not tell.").Default(pollInterval).Between(0.001, 3600),
		spec.Duration("rotate_wait", &c.RotateWait, "With `follow`: how long a file that was renamed away or deleted has to be silent before it is done.").Default(5*time.Second).Between(0, 86400),
	}
}

// Check reports paths and combinations that cannot work.
func (c *Config) Check() diag.Diagnostics {
	var ds diag.Diagnostics
	switch _, err := filepath.Match(c.Path, ""); {
	case c.Path == "":
		ds.AddOptionf("path", codeEmpty, "No path to read", "path is empty. Name a file, or a pattern such as \"logs/*.ndjson\".")
	case err != nil:
		ds.AddOptionf("path", codePattern, "Invalid path pattern", "path = %q has a [ without its ], or ends in a backslash. Write a backslash before a character that stands for itself.", c.Path)
	case strings.Contains(c.Path, "**"):
		ds.AddOptionf("path", codePattern, "Invalid path pattern", "path = %q: ** is not supported. Write one * for each folder.", c.Path)
	}
	packed := c.Compression.of(c.Path)
	if c.Follow && packed != None {
		ds.AddOptionf("follow", codeFollowGzip, "A compressed file cannot be followed", "path = %q is read as %s. Follow the plain file, or leave out follow.", c.Path, packed)
	}
	return ds
}

// Bounded tells whether reading ends by itself.
func (c *Config) Bounded() bool { return !c.Follow }

// New makes the source.
func (c *Config) New(d sources.Deps) (sources.Source, error) { return newSource(*c, d), nil }
