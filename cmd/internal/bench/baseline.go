package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// contenderEnv makes this program be one of its own contenders.
const contenderEnv = "KEYSTONE_BENCH_CONTENDER"

// The plain programs.
const (
	splitLines = "read and split lines only"
	jsonExpr   = "encoding/json + expr VM"
	kafkaRead  = "bare consume loop"
	kafkaCopy  = "bare consume-and-produce loop"
)

func runContender(name string, args []string) error {
	if strings.HasPrefix(name, parquetPrefix) {
		return parquetContender(name, args)
	}
	switch name {
	case splitLines:
		return eachLine(args[0], func([]byte) error { return nil })
	case jsonExpr:
		return jsonExprRoute(args[0], args[1])
	case kafkaRead, kafkaCopy:
		return kafkaContender(name, args)
	case bulkIndexer, bulkIndexerWithout:
		return elasticContender(name, args)
	}
	return fmt.Errorf("no contender %q", name)
}

func eachLine(path string, f func([]byte) error) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	r := bufio.NewReaderSize(in, 1<<20)
	for {
		line, err := r.ReadSlice('\n')
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := f(line); err != nil {
			return err
		}
	}
}

// jsonExprRoute is the route as most Go programs write it.
func jsonExprRoute(from, to string) error {
	filter, err := expr.Compile("country in ['BR','US'] && device.type == 'tv' && position_ms > 1000", expr.AllowUndefinedVariables())
	if err != nil {
		return err
	}
	pct, err := expr.Compile("position_ms / duration_ms * 100", expr.AllowUndefinedVariables())
	if err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	var machine vm.VM
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	err = eachLine(from, func(line []byte) error {
		var event map[string]any
		if err := json.Unmarshal(line, &event); err != nil {
			return err
		}
		pass, err := machine.Run(filter, event)
		if err != nil {
			return err
		}
		if pass != true {
			return nil
		}
		percent, err := machine.Run(pct, event)
		if err != nil {
			return err
		}
		device := event["device"].(map[string]any)
		return enc.Encode(map[string]any{
			"user_id": event["user_id"], "ts": event["ts"], "title_id": event["title_id"],
			"os": device["os"], "pct": percent,
		})
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

// sameEvents compares two files of events by value, line by line.
func sameEvents(want, got string) error {
	f, err := os.Open(got)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	n := 0
	err = eachLine(want, func(line []byte) error {
		n++
		other, err := r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("line %d of %s: %w", n, got, err)
		}
		var a, b map[string]any
		if err := json.Unmarshal(line, &a); err != nil {
			return err
		}
		if err := json.Unmarshal(other, &b); err != nil {
			return err
		}
		if len(a) != len(b) {
			return fmt.Errorf("line %d differs: %s and %s", n, bytes.TrimSpace(line), bytes.TrimSpace(other))
		}
		for k, v := range a {
			if x, isNumber := v.(float64); isNumber {
				if y, ok := b[k].(float64); ok && math.Abs(x-y) <= 1e-9*math.Abs(x) {
					continue
				}
			} else if v == b[k] {
				continue
			}
			return fmt.Errorf("line %d differs in %s: %v and %v", n, k, v, b[k])
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return fmt.Errorf("%s has more than %d lines", got, n)
	}
	if n == 0 {
		return fmt.Errorf("%s is empty: %s", want, strings.TrimSpace(want))
	}
	return nil
}
