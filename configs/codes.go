package configs

import (
	"keystone/configs/diag"
	"keystone/configs/spec"
)

// Codes of problems in files, variables and references.
const (
	codeFiles      = "KS1001"
	codeFileName   = "KS1002"
	codeTooLarge   = "KS1003"
	codeEncoding   = "KS1004"
	codeNesting    = "KS1005"
	codeSyntax     = "KS1006"
	codeBlockType  = "KS1007"
	codeLabels     = "KS1008"
	codeDuplicate  = "KS1009"
	codeOverlay    = "KS1010"
	codeEnv        = "KS1011"
	codeEnviron    = "KS1012"
	codeNotYet     = "KS1013"
	codeBothForms  = "KS1014"
	codeTwice      = "KS1015"
	codeVariable   = "KS1101"
	codeVarValue   = "KS1102"
	codeVarUnknown = "KS1103"
	codeValidation = "KS1104"
	codeLocalCycle = "KS1105"
	codeReference  = "KS1106"
	codeEvaluate   = "KS1107"
	codeForEach    = "KS1108"
	codeSensitive  = "KS1109"
	codeLiteral    = "KS1110"
	codeSecretForm = "KS1111"
	codeTextForm   = "KS1112"
	codeSet        = "KS1113"
	codeVersion    = "KS1114"
	codeKind       = "KS1203"

	codeBlockValue   = "KS3101"
	codeWhichCluster = "KS3102"
	codeClash        = "KS3103"
	codeCycle        = "KS3104"
	codeMoved        = "KS3105"
	codeOutputType   = "KS3107"
	codeStart        = "KS3109"
	codeGuarantee    = "KS3110"

	codeOperator         = "KS3120"
	codeUpdates          = "KS3121"
	codeNeverCloses      = "KS3122"
	codeNotDeterministic = "KS3123"
)

// Codes documents the problems that loading and checking reports, with those
// of decoding options.
func Codes() []diag.Code {
	return append([]diag.Code{
		{Code: codeFiles, Summary: "Cannot read the configuration", Doc: "A configuration is a directory with at least one file NAME.ks.hcl that can be read."},
		{Code: codeFileName, Summary: "File name with other dots", Doc: "NAME.ks.hcl belongs to every environment, NAME.ENV.ks.hcl is the overlay of one. Variables are in keystone.ksvars, ENV.ksvars and NAME.auto.ksvars."},
		{Code: codeTooLarge, Summary: "File too large", Doc: "A file has at most 4 MiB, and at most a million words and signs. Split it; file boundaries carry no meaning."},
		{Code: codeEncoding, Summary: "Not UTF-8", Doc: "Files are UTF-8 without a byte order mark."},
		{Code: codeNesting, Summary: "Nested too deeply", Doc: "Brackets, blocks and templates nest at most 200 deep, and an expression has at most 10,000 operators: more would overflow the parser's stack."},
		{Code: codeSyntax, Summary: "Not HCL", Doc: "The file breaks the grammar of HCL; the message is HCL's own."},
		{Code: codeBlockType, Summary: "Unknown block type", Doc: "See the reference of blocks for what may stand where."},
		{Code: codeLabels, Summary: "Wrong labels", Doc: "cluster, stream, route and variable have a name; source and sink a kind and a name. Names have a to z, 0 to 9 and _, and begin with a letter."},
		{Code: codeDuplicate, Summary: "Declared twice", Doc: "Names are unique over all files of an environment, and names of sources and sinks over all kinds."},
		{Code: codeOverlay, Summary: "Overlay of nothing", Doc: "A file NAME.ENV.ks.hcl changes blocks that the files of every environment declare; it cannot add any."},
		{Code: codeEnv, Summary: "Unknown environment", Doc: "An environment other than default has at least one overlay or file of variables, so that a typing error does not start a new world."},
		{Code: codeEnviron, Summary: "Unknown environment variable", Doc: "Names that begin with KEYSTONE_ are read by Keystone: KEYSTONE_ENV, KEYSTONE_VAR_NAME, KEYSTONE_SET_ADDRESS_OPTION."},
		{Code: codeNotYet, Summary: "Block not in this version", Doc: "The language has the block, this version does not run it."},
		{Code: codeBothForms, Summary: "Option and block of one name", Doc: "An option and a nested block of one name in one body contradict each other."},
		{Code: codeTwice, Summary: "Block written twice", Doc: "The nested block may be written once."},
		{Code: codeVariable, Summary: "Wrong declaration of a variable", Doc: "A variable has type, default, description, sensitive, nullable and blocks validation { condition error_message }."},
		{Code: codeVarValue, Summary: "Wrong value of a variable", Doc: "The value does not have the declared type, or there is none. Weakest first: default, KEYSTONE_VAR_x, keystone.ksvars, ENV.ksvars, *.auto.ksvars, -var-file, -var."},
		{Code: codeVarUnknown, Summary: "Unknown variable", Doc: "A value is given for a variable that no file declares."},
		{Code: codeValidation, Summary: "Invalid value of a variable", Doc: "A validation of the variable does not hold."},
		{Code: codeLocalCycle, Summary: "Locals in a circle", Doc: "A local needs its own value, over others."},
		{Code: codeReference, Summary: "Unknown reference", Doc: "References are var.x, local.x, each.key, each.value and the addresses of blocks: stream.x, sink.x[\"key\"]."},
		{Code: codeEvaluate, Summary: "Cannot evaluate", Doc: "A value could not be computed; the message is HCL's own or the function's."},
		{Code: codeForEach, Summary: "Wrong for_each", Doc: "for_each takes a map, a set or a list of distinct strings, known when the configuration is loaded."},
		{Code: codeSensitive, Summary: "Sensitive value in a plain option", Doc: "What is not declared secret is stored and shown, so it cannot come from a sensitive variable."},
		{Code: codeLiteral, Summary: "Secret written in the file", Doc: "A literal in a secret option ends up in Git. It is not stored with the goal, so a saved plan and `serve -watch=false` are without it. Use env(), file() or a sensitive variable."},
		{Code: codeSecretForm, Summary: "Computed secret", Doc: "A secret is env(), file(), a sensitive variable or a template of them, so that only the worker ever reads it."},
		{Code: codeTextForm, Summary: "Not the text of an expression", Doc: "Expressions over events are written out in quotes, in place or in a local."},
		{Code: codeSet, Summary: "Unknown environment variable", Doc: "KEYSTONE_SET_TYPE_NAME_OPTION sets an option of a declared block; nested options go on with _, as in KEYSTONE_SET_ROUTE_PLAYS_DELIVERY_GUARANTEE."},
		{Code: codeVersion, Summary: "Another version of Keystone is required", Doc: "required_version in the block keystone does not allow the version that runs."},
		{Code: codeKind, Summary: "Unknown kind", Doc: "There is no source or sink of this kind in this build."},
		{Code: codeBlockValue, Summary: "Wrong value", Doc: "The value has the right type and still no meaning here; the message says why."},
		{Code: codeWhichCluster, Summary: "Which cluster?", Doc: "With several clusters each stream says which one it is on."},
		{Code: codeClash, Summary: "Names clash", Doc: "Two blocks would use one topic or one name; derived names can be replaced by written ones."},
		{Code: codeCycle, Summary: "Route that feeds its own source", Doc: "Events would go round for ever. The message shows the way."},
		{Code: codeMoved, Summary: "Wrong moved or removed", Doc: "moved says that a block which is no longer declared goes on under a declared name; removed that it is let go of."},
		{Code: codeOutputType, Summary: "Output does not fit the target's schema", Doc: "A field of the route's output has another type than the target stream's schema declares, or a required field is missing."},
		{Code: codeStart, Summary: "Start without a meaning", Doc: "start says where a consumer group without offsets begins in a stream. A source is read from its own beginning as long as the route has no position. To skip what lies before, filter by the time of the event."},
		{Code: codeGuarantee, Summary: "Guarantee that cannot be kept", Doc: "What the route reads or writes cannot keep what delivery.guarantee asks for. exactly_once is for routes from a stream to a stream of the same cluster, with dead letters there too, and its transactions are bounded by commit_interval and drain_timeout. The docs on guarantees have the table."},
		{Code: codeOperator, Summary: "Wrong operator of a job", Doc: "An operator lacks what its kind needs, or what it says contradicts itself; the message says what."},
		{Code: codeUpdates, Summary: "Rows that change", Doc: "A window gives its row again when it is updated: with allowed_lateness, or an emit other than on_close. Such rows are written with changelog = \"upsert\", by a key that tells them apart, or with revisions = true; operators with state cannot take them."},
		{Code: codeNeverCloses, Summary: "Window that never closes", Doc: "A window gives its row when the time of the input has passed its end. A global window ends with its input, and events without a time move no time."},
		{Code: codeNotDeterministic, Summary: "Not deterministic", Doc: "A job gives the same rows whenever it runs, but for what this warning names: processing time, a lookup in a table as it is now, a dedup whose key is spread over partitions."},
	}, spec.Codes()...)
}
