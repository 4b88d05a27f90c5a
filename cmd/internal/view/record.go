package view

import (
	"fmt"
	"io"

	"keystone/cmd/internal/api"
)

// Record prints one tapped record on a line: where it was, what came of it, its value.
func Record(w io.Writer, s Style, e api.TapEvent) error {
	where := fmt.Sprintf("%d@%d", e.Partition, e.Offset)
	if e.Topic != "" {
		where = printable(e.Topic) + "/" + where
	}
	value := string(e.Value)
	switch {
	case value == "" && e.Raw != nil:
		value = fmt.Sprintf("%q", e.Raw)
	case value == "":
		value = "null"
	}
	line := s.paint(where, dim)
	if e.Outcome != "" {
		c := yellow
		if e.Outcome == "delivered" {
			c = green
		}
		line += " " + s.paint(e.Outcome, c)
	}
	if e.Key != "" {
		line += " " + s.paint("key="+printable(e.Key), cyan)
	}
	line += " " + printable(value)
	if e.Error != "" {
		line += " " + s.paint("# "+printable(e.Error), red)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
