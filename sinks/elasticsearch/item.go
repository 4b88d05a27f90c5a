package elasticsearch

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"keystone/pipeline/record"
	"keystone/sinks"
)

// encoder makes the items of a bulk request: a line that says what to do, and the document.
type encoder struct {
	cols    columns
	index   []byte // of all events; nil: see cols
	action  Action
	own     bool // ids are the user's
	origin  bool
	version int64  // of documents with derived ids; -1: none
	before  []byte // of a derived id: what is the same for all records of a batch, in its encoded form
	from    []byte // of _ks: what is before the offset,
	after   []byte // and behind the child
}

// begin prepares for the records of one batch.
func (e *encoder) begin(c *Config, cols columns, d *sinks.Deps, b *record.Batch) error {
	e.cols, e.action, e.own, e.origin = cols, c.Action, c.ID.S != "", c.origin()
	e.index = nil
	if !strings.ContainsAny(c.Index.S, "{}") {
		e.index = []byte(c.Index.S)
	}
	if !e.own {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", d.ID, b.Next.Identity, b.Partition))
		e.before = base64.RawURLEncoding.AppendEncode(e.before[:0], sum[:prefixBytes])
	}
	e.version = -1
	if !e.own && e.action == Index {
		if d.Generation < 0 || d.Generation > math.MaxInt32 || b.Revision < 0 || b.Revision > math.MaxUint32 {
			return fmt.Errorf("generation %d and revision %d do not fit into the version of a document", d.Generation, b.Revision)
		}
		e.version = d.Generation<<32 | b.Revision
	}
	if e.origin {
		e.from = appendJSON(append(e.from[:0], `"_ks":{"route":`...), d.Route)
		e.from = appendJSON(append(e.from, `,"topic":`...), b.Next.Identity)
		e.from = strconv.AppendInt(append(e.from, `,"partition":`...), int64(b.Partition), 10)
		e.from = append(e.from, `,"offset":`...)
		e.after = strconv.AppendInt(append(e.after[:0], `,"generation":`...), d.Generation, 10)
		e.after = append(e.after, '}')
	}
	return nil
}

// A derived id is the start of a hash of (route id, identity of the source, partition), then the offset and, of all
// but the first output of a record, its number, in base64 for URLs. Ids of one partition begin alike and grow
// with the offset: Elasticsearch stores such ids smaller and finds out sooner that one is new than with hashes.
const prefixBytes = 12 // a multiple of 3, so that it has an encoded form by itself

func (e *encoder) appendID(dst []byte, r *record.Record) []byte {
	var tail [12]byte
	binary.BigEndian.PutUint64(tail[:], uint64(r.Offset))
	n := 8
	if r.Child != 0 {
		binary.BigEndian.PutUint32(tail[8:], uint32(r.Child))
		n = 12
	}
	return base64.RawURLEncoding.AppendEncode(append(dst, e.before...), tail[:n])
}

// refusal is why a record cannot be an item, whatever the cluster says.
type refusal struct{ code, text string }

func (r *refusal) Error() string { return r.text }

// maxID is how long Elasticsearch lets an id be. It refuses the whole request for a longer one.
const maxID = 512

// append adds the item of a record. The error is a *refusal; dst is then as it was.
func (e *encoder) append(dst []byte, r *record.Record) ([]byte, error) {
	do, err := e.what(r)
	if err != nil {
		return dst, err
	}
	version := e.version
	if e.cols.version >= 0 {
		if version, err = parseVersion(derived(r, e.cols.version)); err != nil {
			return dst, err
		}
	}
	index := e.indexOf(r)
	if len(index) == 0 {
		return dst, &refusal{"no_index", "the name of the index needs a field that the event does not have"}
	}
	if index[0] == '<' {
		return dst, &refusal{"index_name", "an index whose name begins with < would depend on the clock"}
	}
	at := len(dst)
	dst = append(append(append(dst, `{"`...), do...), `":{"_index":`...)
	dst = appendJSON(dst, index)
	dst = append(dst, `,"_id":`...)
	if e.own {
		id := derived(r, e.cols.id)
		switch {
		case len(id) == 0 && r.Value == nil:
			return dst[:at], &refusal{"no_id", "a null value has no fields, so the id of what it deletes is unknown; take the id from meta.key, or let the route drop them (tombstones = \"drop\")"}
		case len(id) == 0:
			return dst[:at], &refusal{"no_id", "the id of the document is nil or empty"}
		case len(id) > maxID:
			return dst[:at], &refusal{"id_too_long", fmt.Sprintf("the id of the document has %d bytes; Elasticsearch takes %d at most", len(id), maxID)}
		case !utf8.Valid(id):
			return dst[:at], &refusal{"id_not_utf8", "the id of the document is no text in UTF-8"}
		}
		dst = appendJSON(dst, id)
	} else {
		dst = append(e.appendID(append(dst, '"'), r), '"')
	}
	if e.cols.routing >= 0 {
		to := derived(r, e.cols.routing)
		switch {
		case len(to) == 0:
			return dst[:at], &refusal{"no_routing", "the routing of the document is nil or empty, and where it belongs is unknown; take it from what every event has (a null value has meta.key alone)"}
		case len(to) > maxID:
			return dst[:at], &refusal{"routing_too_long", fmt.Sprintf("the routing of the document has %d bytes; %d are taken at most", len(to), maxID)}
		case !utf8.Valid(to):
			return dst[:at], &refusal{"routing_not_utf8", "the routing of the document is no text in UTF-8"}
		}
		dst = appendJSON(append(dst, `,"routing":`...), to)
	}
	if version >= 0 {
		dst = strconv.AppendInt(append(dst, `,"version":`...), version, 10)
		dst = append(dst, `,"version_type":"external_gte"`...)
	}
	switch do {
	case Delete:
		return append(dst, "}}\n"...), nil
	case Update:
		dst = append(dst, `,"retry_on_conflict":3}}`+"\n"+`{"doc_as_upsert":true,"doc":`...)
	default:
		dst = append(dst, "}}\n"...)
	}
	if dst, err = e.appendDocument(dst, r); err != nil {
		return dst[:at], err
	}
	if do == Update {
		dst = append(dst, '}')
	}
	return append(dst, '\n'), nil
}

func (e *encoder) indexOf(r *record.Record) []byte {
	if e.index != nil {
		return e.index
	}
	return derived(r, e.cols.index)
}

// what decides between writing and deleting.
func (e *encoder) what(r *record.Record) (Action, error) {
	if r.Value == nil {
		if !e.own {
			return "", &refusal{"null_value", "a null value deletes by id, and the id is not the user's: give the sink an id, or let the route drop null values (tombstones = \"drop\")"}
		}
		return Delete, nil
	}
	if e.cols.delete < 0 {
		return e.action, nil
	}
	switch string(derived(r, e.cols.delete)) {
	case "true":
		return Delete, nil
	case "false", "":
		return e.action, nil
	}
	return "", &refusal{"delete_not_bool", fmt.Sprintf("delete gives %.40q, which is neither true nor false", derived(r, e.cols.delete))}
}

func parseVersion(text []byte) (int64, error) {
	v, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || v < 0 {
		what := fmt.Sprintf("%.40q", text)
		if text == nil {
			what = "nil"
		}
		return 0, &refusal{"version", "the version of the document is " + what + "; it must be a whole number, 0 or more"}
	}
	return v, nil
}

func derived(r *record.Record, at int) []byte {
	if at < 0 || at >= len(r.Derived) {
		return nil
	}
	return r.Derived[at]
}

// appendDocument adds the value in one line, with _ks where that is wanted.
func (e *encoder) appendDocument(dst []byte, r *record.Record) ([]byte, error) {
	v := r.Value
	open := 0
	for open < len(v) && space(v[open]) {
		open++
	}
	if open == len(v) || v[open] != '{' {
		return dst, &refusal{"not_an_object", "a document is a JSON object, and the event is none"}
	}
	at := len(dst)
	if e.origin {
		dst = append(append(dst, '{'), e.from...)
		dst = strconv.AppendInt(dst, r.Offset, 10)
		dst = strconv.AppendInt(append(dst, `,"child":`...), int64(r.Child), 10)
		dst = append(dst, e.after...)
		v = v[open+1:]
		for len(v) > 0 && space(v[0]) {
			v = v[1:]
		}
		if len(v) > 0 && v[0] != '}' {
			dst = append(dst, ',')
		}
	}
	dst = append(dst, v...)
	// A line break ends an item. Between the tokens of a document a space means the same, and within
	// strings JSON has none.
	for doc := dst[at:]; ; {
		i := bytes.IndexByte(doc, '\n')
		if i < 0 {
			return dst, nil
		}
		doc[i] = ' '
		doc = doc[i+1:]
	}
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// appendJSON adds text as a JSON string.
func appendJSON[T string | []byte](dst []byte, text T) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendQuoted(dst, string(text))
		}
	}
	return append(append(append(dst, '"'), text...), '"')
}

// appendQuoted is appendJSON for what has to be escaped. What is no UTF-8 becomes U+FFFD, as in all of encoding/json.
func appendQuoted(dst []byte, text string) []byte {
	q, err := json.Marshal(text)
	if err != nil {
		panic(fmt.Sprintf("elasticsearch: a string has no JSON form: %v", err)) // there is none of which that is true
	}
	return append(slices.Grow(dst, len(q)), q...)
}

// refused makes a failure of a refusal.
func refused(i int, err error) sinks.Failure {
	var r *refusal
	if !errors.As(err, &r) {
		panic(fmt.Sprintf("elasticsearch: %v is no refusal", err))
	}
	return sinks.Failure{Index: i, Outcome: sinks.Rejected, Code: r.code, Err: r}
}
