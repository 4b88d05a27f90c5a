package configs_test

import (
	"errors"
	"time"

	"keystone/configs"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
	"keystone/sinks"
	"keystone/sources"
)

// The kinds of these tests have one option of each form, and never run.

type testSource struct {
	Rate  int
	Every time.Duration
	Path  string
}

func (c *testSource) Options() spec.Options {
	return spec.Options{
		spec.Int("rate", &c.Rate, "Events a second.").Default(1000).Between(0, 1e9).Effect(spec.Live),
		spec.Duration("every", &c.Every, "Pause.").Default(time.Second),
		spec.String("path", &c.Path, "Path."),
	}
}
func (c *testSource) Check() diag.Diagnostics { return nil }
func (c *testSource) New(sources.Deps) (sources.Source, error) {
	return nil, errors.New("not for running")
}
func (c *testSource) Bounded() bool { return true }

// typedSource is of a kind whose events are known.
type typedSource struct{ testSource }

func (c *typedSource) Schema() types.Type {
	return types.ObjectOf(types.Field{Name: "a", Type: types.IntType})
}

type testSink struct {
	Path     diag.Text
	ID       diag.Text
	Password spec.Secret
	Labels   map[string]string
	URLs     []string
	Ratio    float64
	Quiet    bool
	Max      int64
	Mode     string
	Size     int64
	Rotate   struct {
		Present bool
		Size    int64
		Token   spec.Secret
	}
}

func (c *testSink) Options() spec.Options {
	return spec.Options{
		spec.Pattern("path", &c.Path, "Where to.").OverOutput().Eg(`"out.ndjson"`),
		spec.Expr("id", &c.ID, "Identity.").OverOutput(),
		spec.Sensitive("password", &c.Password, "Password."),
		spec.StringMap("labels", &c.Labels, "Labels."),
		spec.Strings("urls", &c.URLs, "Addresses."),
		spec.Float("ratio", &c.Ratio, "Ratio.").Between(0, 1),
		spec.Bool("quiet", &c.Quiet, "Quiet.").Effect(spec.Live),
		spec.Bytes("max", &c.Max, "Bound.").Default(8 << 20).AtLeast(1),
		spec.Enum("mode", &c.Mode, "Mode.", "append", "create").Default("append"),
		spec.Bytes("size", &c.Size, "Size."),
		spec.Nested("rotate", "Rotation.", spec.Options{
			spec.Bytes("size", &c.Rotate.Size, "Size.").Default(1 << 30).Effect(spec.Live),
			spec.Sensitive("token", &c.Rotate.Token, "Token."),
		}).Presence(&c.Rotate.Present),
	}
}
func (c *testSink) TakesNull() bool { return c.ID.S != "" }

func (c *testSink) Check() diag.Diagnostics {
	var diags diag.Diagnostics
	if len(c.URLs) == 13 {
		diags.Addf(diag.Range{}, "KS5999", "Unlucky", "Thirteen addresses.")
	}
	return diags
}
func (c *testSink) New(sinks.Deps) (sinks.Sink, error) { return nil, errors.New("not for running") }

func testCatalog() configs.Catalog {
	return configs.Catalog{
		Sources: []sources.Kind{
			{Name: "generator", Doc: "Makes events.", New: func() sources.Config { return &testSource{} }},
			{Name: "typed", Doc: "Makes known events.", New: func() sources.Config { return &typedSource{} }},
			{Name: "file", Doc: "Reads files.", Cannot: map[string]string{"exactly_once": "files have no transactions"}, New: func() sources.Config { return &testSource{} }},
		},
		Sinks: []sinks.Kind{
			{Name: "stdout", Doc: "Prints.", Letters: "keeps nothing that could be looked at later", New: func() sinks.Config { return &testSink{} }},
			{Name: "file", Doc: "Writes files.", Cannot: map[string]string{"at_most_once": "files are cut back"}, New: func() sinks.Config { return &testSink{} }},
			{Name: "elasticsearch", Doc: "Indexes.", New: func() sinks.Config { return &testSink{} }},
		},
	}
}
