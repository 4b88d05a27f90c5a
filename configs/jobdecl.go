package configs

import (
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
)

// jobDecl is a job as its options say it, before its operators are linked.
type jobDecl struct {
	job *Job
	ops map[string]*opDecl // by name: window.by_user
}

// opDecl is one operator as its options say it. What it has no option for is not used.
type opDecl struct {
	kind, label string

	input, left, right spec.Port
	inputs             []spec.Port
	from, to           spec.Ref
	where              []diag.Text
	key, right2        []spec.Field // of a join: left_key, right_key
	project, set       []spec.Field
	drop               []diag.Text
	field              diag.Text
	as, typ, asOf      string
	branches           map[string]*opDecl

	eventTime                        diag.Text
	watermark, idle, maxAhead, align time.Duration
	start                            string
	processingTime                   bool

	tumbling, hopping, session, global, interval bool
	tumblingSize, hoppingSize, every, gap        time.Duration
	before, after                                time.Duration
	lateness, ttl                                time.Duration
	emit                                         string
	aggregate                                    []spec.Field

	orderBy    diag.Text
	descending bool
	n          int

	messageKey diag.Text
	changelog  string
	revisions  bool
}

func (o *opDecl) name() string { return o.kind + "." + o.label }

// Options declares the block job.
func (j *Job) Options() spec.Options {
	return (&jobDecl{job: j, ops: map[string]*opDecl{}}).options()
}

func (d *jobDecl) options() spec.Options {
	j := d.job
	opts := spec.Options{
		spec.String("description", &j.Description, "What the job is for, for people.").Effect(spec.Live),
		spec.Bool("enabled", &j.Enabled, "With false the job is stopped and keeps its state.").Default(true).Effect(spec.Live).Also("disabled", "paused"),
		spec.Enum("on_error", &j.OnError, "What becomes of a record or row that cannot be evaluated.", DeadLetter, DropRecord, StopRoute).Default(DeadLetter),
		spec.Reference("dead_letter", &j.DeadLetter, "The stream to which records go that could not be evaluated, instead of the managed one.", "stream").Eg("stream.rejected").Also("dlq", "dead_letter_queue", "dead_letters"),
		spec.Int("parallelism", &j.Parallelism, "Tasks of each stage; 0 is as many as there are processors. State is spread anew over the tasks when it changes.").Default(0).Between(0, 1024).Also("workers", "concurrency", "threads"),
		spec.Int("key_groups", &j.KeyGroups, "Parts into which keys are hashed: the most tasks that a stage can have. It is part of the state's format.").Default(128).Between(1, 32768).Effect(spec.Replace).Also("max_parallelism"),
		spec.String("restore", &j.Restore, "What the job begins with where the state directory has nothing of it: \"latest\", its last checkpoint, if there is one; \"savepoint:NAME\"; or \"fresh\", nothing. Where it has, the job goes on from that.").Default("latest").Effect(spec.Live).Eg(`"savepoint:before_change"`),
		spec.Nested("checkpoint", "Copies of the state, to go on from where the state directory is lost.", spec.Options{
			spec.Duration("interval", &j.Checkpoint.Interval, "How often one is made; 0s makes none.").Default(10*time.Minute).Between(0, 30*24*3600),
			spec.Int("retain", &j.Checkpoint.Retain, "How many are kept at least.").Default(10).Between(1, 100_000),
			spec.Duration("retain_for", &j.Checkpoint.RetainFor, "Younger ones are kept beyond that number; 0s keeps none.").Default(time.Duration(0)).Between(0, 10*365*24*3600),
			spec.Pattern("location", &j.Checkpoint.Location, "Where they are kept: a folder or an address of object storage. Unless said, below the state directory.").Eg(`"s3://bucket/checkpoints"`),
		}),
		spec.Nested("state", "What operators keep.", spec.Options{
			spec.Bytes("memory", &j.State.Memory, "What the state may take of memory; beyond it lies on disk.").Default(256<<20).Between(8<<20, 1<<44),
			spec.Duration("ttl", &j.State.TTL, "How long, in event time, keys are kept that no operator frees by itself, where those have no ttl of their own; \"forever\" keeps all.").Default(time.Duration(-1)).Between(-1, 100*365*24*3600),
		}),
	}
	for _, k := range operatorKinds {
		opts = append(opts, spec.Labelled(k.name, k.doc, func(label string) spec.Options {
			o := &opDecl{kind: k.name, label: label, branches: map[string]*opDecl{}}
			d.ops[o.name()] = o
			return k.options(o)
		}))
	}
	return opts
}

type operatorKind struct {
	name, doc string
	options   func(o *opDecl) spec.Options
}

const year = 365 * 24 * 3600

// operatorKinds never changes.
var operatorKinds = []operatorKind{
	{"read", "Reads a stream or source, and says what the time of its events is.", func(o *opDecl) spec.Options {
		return spec.Options{
			spec.Reference("from", &o.from, "The stream or source whose events it reads.", "stream", "source").Required().Eg("stream.playback").Effect(spec.Replace).Also("source", "input", "stream", "topic"),
			spec.Expr("event_time", &o.eventTime, "When the event happened: a time, or whole milliseconds since 1970. Unless said, the timestamp of the record.").Eg(`"ts"`).Also("timestamp", "time", "rowtime", "time_field"),
			spec.Duration("watermark", &o.watermark, "How far events of one partition may be behind the latest one without being late.").Default(10*time.Second).Between(0, year).Eg(`"10s"`).Also("delay", "watermark_delay", "out_of_orderness", "max_delay"),
			spec.Duration("idle", &o.idle, "After so long at the end of its log a partition holds no window up; 0s: it always does.").Default(time.Minute).Between(0, year).Also("idle_timeout"),
			spec.Duration("max_ahead", &o.maxAhead, "An event whose time is further ahead of its record's timestamp is an error, and moves no watermark; 0s: no bound.").Default(time.Hour).Between(0, 100*year),
			spec.Duration("align", &o.align, "Partitions that are further ahead of the slowest one wait for it, in event time; 0s: they never do.").Default(5*time.Minute).Between(0, 100*year).Effect(spec.Live),
			spec.String("start", &o.start, "Where reading begins as long as the job has no state: \"earliest\", \"latest\" or a time (RFC 3339).").Default("earliest").Effect(spec.Live).Eg(`"2026-01-31T00:00:00Z"`),
			spec.Bool("processing_time", &o.processingTime, "The time of an event is when it was read. What windows hold then depends on when the job runs, and differs when it runs again.").Default(false),
		}
	}},
	{"filter", "Passes rows for which a condition is true.", func(o *opDecl) spec.Options {
		return spec.Options{
			input(o),
			spec.Exprs("where", &o.where, "Only rows for which it is true pass; of a list, all must be true.").Required().Eg(`"country == 'BR'"`).Also("filter", "condition", "when", "if"),
		}
	}},
	{"project", "Changes the fields of each row.", func(o *opDecl) spec.Options {
		return spec.Options{
			input(o),
			spec.ExprMap("project", &o.project, "The fields of the output, in this order; nothing else passes.").Eg(`{ user = "user_id", ts = "ts" }`).Also("select", "map", "fields", "transform", "columns"),
			spec.ExprMap("set", &o.set, "Fields that are added or replaced, by path; the rest passes byte for byte.").Eg(`{ "device.os" = "lower(device.os)" }`).Also("add", "update", "assign"),
			spec.Exprs("drop", &o.drop, "Paths that are removed; the rest passes byte for byte.").Eg(`["payload"]`).Also("remove", "exclude", "omit"),
		}
	}},
	{"explode", "Makes a row of each element of a list.", func(o *opDecl) spec.Options {
		return spec.Options{
			input(o),
			spec.Expr("field", &o.field, "The path of the list.").Required().Eg(`"items"`).Also("list", "path", "explode", "unnest"),
			spec.String("as", &o.as, "The field that has the element; unless said, it is in the list's place.").Eg(`"item"`).Also("alias", "name"),
		}
	}},
	{"dedup", "Passes the first row of each key.", func(o *opDecl) spec.Options {
		return spec.Options{
			input(o), key(o),
			spec.Duration("ttl", &o.ttl, "How long a key is known, in event time; \"forever\" forgets none, and its state only grows.").Required().Between(-1, 100*year).Eg(`"24h"`).Also("within", "window", "retention"),
		}
	}},
	{"union", "Puts the rows of several inputs into one.", func(o *opDecl) spec.Options {
		return spec.Options{
			spec.Inputs("input", &o.inputs, "The operators whose rows it takes: their types must agree.").Required().Eg("[read.web, read.tv]").Also("inputs", "from"),
		}
	}},
	{"split", "Gives each row to the first branch whose condition is true. They are read as split.NAME.BRANCH, and rows of none as split.NAME.rest.", func(o *opDecl) spec.Options {
		return spec.Options{
			input(o),
			spec.Labelled("branch", "A branch; the order of branches counts.", func(label string) spec.Options {
				b := &opDecl{kind: "branch", label: label}
				o.branches[label] = b
				return spec.Options{spec.Exprs("where", &b.where, "Rows for which it is true, and that no branch before took; of a list, all must be true.").Required().Eg(`"kind == 'play'"`).Also("filter", "condition", "when", "if")}
			}).InOrder().Required().Also("case", "output"),
		}
	}},
	{"lookup", "Adds the row of a compacted stream that has the key.", func(o *opDecl) spec.Options {
		return spec.Options{
			input(o),
			spec.Reference("from", &o.from, "The stream, of which the last row of each message key is the table.", "stream").Required().Eg("stream.titles").Effect(spec.Replace).Also("table", "source"),
			spec.ExprMap("key", &o.key, "The field of the table that is its message key, with what it must equal.").Required().Eg(`{ title_id = "title_id" }`).Effect(spec.Replace).Also("on", "by"),
			spec.String("as", &o.as, "The field that has the table's row.").Required().Eg(`"title"`).Also("alias", "name"),
			spec.Enum("type", &o.typ, "What becomes of rows for which the table has none: they have nil there, or are dropped.", JoinLeft, JoinInner).Default(JoinLeft),
			spec.Enum("as_of", &o.asOf, "Which table: as it is when the row passes, which differs from run to run, or as it was at the row's time.", "now", "event_time").Default("now").Effect(spec.Replace),
		}
	}},
	{"join", "Joins rows of two inputs that have equal keys and lie close in time. In expressions they are left and right.", func(o *opDecl) spec.Options {
		return spec.Options{
			spec.Input("left", &o.left, "The operator whose rows are left.").Required().Eg("read.starts"),
			spec.Input("right", &o.right, "The operator whose rows are right.").Required().Eg("read.stops"),
			spec.ExprMap("left_key", &o.key, "The key of left rows.").Required().Eg(`{ id = "play_id" }`).Effect(spec.Replace).Also("key", "on"),
			spec.ExprMap("right_key", &o.right2, "The key of right rows, with the same names.").Required().Eg(`{ id = "play_id" }`).Effect(spec.Replace),
			spec.Enum("type", &o.typ, "Which rows without a partner are in the output, with nil in its place: none, those of left, of right, of both.", JoinInner, JoinLeft, JoinRight, JoinFull).Default(JoinInner).Effect(spec.Replace),
			spec.Nested("interval", "Rows join when right.time is from left.time - before to left.time + after.", spec.Options{
				spec.Duration("before", &o.before, "How much earlier the right row may be.").Default(time.Duration(0)).Between(0, 10*year).Effect(spec.Replace),
				spec.Duration("after", &o.after, "How much later the right row may be.").Default(time.Duration(0)).Between(0, 10*year).Effect(spec.Replace),
			}).Presence(&o.interval).Effect(spec.Replace),
			tumbling(o), hopping(o), lateness(o),
			spec.ExprMap("project", &o.project, "The fields of the output, from left and right; unless said, the objects left and right themselves.").Eg(`{ user = "left.user_id", ms = "right.ts - left.ts" }`).Also("select", "fields"),
		}
	}},
	{"window", "Gathers the rows of each key in windows of time, and computes a row of each.", func(o *opDecl) spec.Options {
		return spec.Options{
			input(o), key(o), tumbling(o), hopping(o),
			spec.Nested("session", "Windows that end when no row comes for the gap.", spec.Options{
				spec.Duration("gap", &o.gap, "The longest time between two rows of a session.").Required().Between(0.001, 10*year).Eg(`"30m"`).Effect(spec.Replace),
			}).Presence(&o.session).Effect(spec.Replace),
			spec.Nested("global", "One window for each key, which ends with the input.", spec.Options{}).Presence(&o.global).Effect(spec.Replace),
			aggregate(o), lateness(o),
			emit(o, "When a window gives its row: \"on_close\", once, when it has ended; \"on_update\", whenever it has changed; or a duration of event time between changes.", EmitOnClose),
		}
	}},
	{"aggregate", "Computes a row of all rows of each key, which changes with each of them.", func(o *opDecl) spec.Options {
		return spec.Options{
			input(o), key(o), aggregate(o), ttl(o),
			emit(o, "When a key gives its row: \"on_update\", whenever it has changed; a duration of event time between changes; or \"on_close\", once, when the input has ended.", EmitOnUpdate),
		}
	}},
	{"top", "Passes the first rows of each key in an order, with their rank from 1 in the field rank.", func(o *opDecl) spec.Options {
		return spec.Options{
			input(o), key(o),
			spec.Expr("order_by", &o.orderBy, "What rows are ordered by: numbers, strings, times or bools; nil comes last. Of equal ones the earlier is first.").Required().Eg(`"plays"`).Effect(spec.Replace).Also("sort", "sort_by", "by"),
			spec.Bool("descending", &o.descending, "The greatest first.").Default(false).Effect(spec.Replace).Also("desc", "reverse"),
			spec.Int("n", &o.n, "How many rows of each key pass.").Required().Between(1, 10_000).Eg("10").Effect(spec.Replace).Also("limit", "k", "count"),
			ttl(o),
		}
	}},
	{"write", "Writes rows to a stream or sink.", func(o *opDecl) spec.Options {
		return spec.Options{
			input(o),
			spec.Reference("to", &o.to, "The sink or stream that it writes.", "sink", "stream").Required().Eg("stream.sessions").Also("sink", "output", "stream", "target"),
			spec.Expr("key", &o.messageKey, "The message key, over the row. Unless said the target stream's; of an upsert a JSON list of the fields that tell rows apart.").Eg(`"user_id"`).Also("message_key", "partition_by"),
			spec.Enum("changelog", &o.changelog, "How rows are written that change: not at all, since each is written once; or each as the last of its key, which replaces the one before, and a tombstone where it is withdrawn.", ChangelogAppend, ChangelogUpsert).Default(ChangelogAppend).Also("mode"),
			spec.Bool("revisions", &o.revisions, "Append each change of a row that changes, with the fields op (insert, update, delete) and revision.").Default(false),
		}
	}},
}

func input(o *opDecl) *spec.Option {
	return spec.Input("input", &o.input, "The operator whose rows it takes.").Required().Eg("read.plays").Also("from", "inputs", "source")
}

func key(o *opDecl) *spec.Option {
	return spec.ExprMap("key", &o.key, "The fields of the key, by name; with {} all rows have one key.").Required().Eg(`{ user_id = "user_id" }`).Effect(spec.Replace).Also("keys", "group_by", "by", "key_by", "partition_by")
}

func aggregate(o *opDecl) *spec.Option {
	return spec.ExprMap("aggregate", &o.aggregate, "The fields that are computed of the rows of a key, by name.").Required().Eg(`{ plays = "count()", watched = "sum(ms)" }`).Effect(spec.Replace).Also("aggregates", "select", "fields", "project")
}

func tumbling(o *opDecl) *spec.Option {
	return spec.Nested("tumbling", "Windows of one length, one after the other, from 1970 on.", spec.Options{
		spec.Duration("size", &o.tumblingSize, "The length.").Required().Between(0.001, 10*year).Eg(`"1m"`).Effect(spec.Replace),
	}).Presence(&o.tumbling).Effect(spec.Replace)
}

func hopping(o *opDecl) *spec.Option {
	return spec.Nested("hopping", "Windows of one length that overlap.", spec.Options{
		spec.Duration("size", &o.hoppingSize, "The length, a multiple of every.").Required().Between(0.001, 10*year).Eg(`"5m"`).Effect(spec.Replace),
		spec.Duration("every", &o.every, "How often one begins.").Required().Between(0.001, 10*year).Eg(`"1m"`).Effect(spec.Replace).Also("slide", "hop", "step"),
	}).Presence(&o.hopping).Effect(spec.Replace).Also("sliding")
}

func lateness(o *opDecl) *spec.Option {
	return spec.Duration("allowed_lateness", &o.lateness, "How long after its end a window still takes rows; those change what it gave. Later rows go to the output late.").Default(time.Duration(0)).Between(0, 10*year).Eg(`"5m"`).Also("lateness", "grace", "grace_period")
}

func ttl(o *opDecl) *spec.Option {
	return spec.Duration("ttl", &o.ttl, "A key that no row has come for is forgotten after so long, in event time; \"forever\": never. Unless said, the job's state.ttl.").Between(-1, 100*year).Eg(`"7d"`).Also("retention", "expire", "expiry")
}

func emit(o *opDecl, doc, def string) *spec.Option {
	return spec.String("emit", &o.emit, doc).Default(def).Eg(`"on_update"`).Also("trigger", "emit_on")
}
