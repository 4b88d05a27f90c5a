package elasticsearch

import "keystone/configs/diag"

// The codes of this kind.
const (
	codeURL     = "KS5201"
	codeIndex   = "KS5202"
	codeAction  = "KS5203"
	codeVersion = "KS5204"
	codeAuth    = "KS5205"
	codeTLS     = "KS5206"
	codePlain   = "KS5207"

	codeTemplate  = "KS5210"
	codeLifecycle = "KS5211"
	codeField     = "KS5212"
)

// Codes documents the diagnostics of this package.
func Codes() []diag.Code {
	return []diag.Code{
		{Code: codeURL, Summary: "Invalid URL of an Elasticsearch node", Doc: "`urls` names nodes of one cluster, each with http or https and a host. Credentials go into `auth { }`, where they stay secret."},
		{Code: codeIndex, Summary: "Nowhere to write to", Doc: "`index` names the index, the alias or the data stream that documents are written to; it may have placeholders over the output event. `pipeline` names one ingest pipeline, and a data stream takes no `routing`."},
		{Code: codeAction, Summary: "Action that cannot work", Doc: "`action = \"update\"`, `action = \"delete\"` and `delete` change documents that are there, so `id` must say which; and `delete` decides only where the action is `index` or `update`."},
		{Code: codeVersion, Summary: "Version that cannot work", Doc: "`version` orders what is written to one document: it needs `id`, and Elasticsearch takes it only when a document is replaced or deleted as a whole (`action = \"index\"` or `\"delete\"`)."},
		{Code: codeAuth, Summary: "Credentials that are not whole", Doc: "`auth { }` has `username` and `password`, or `api_key`, or `token`."},
		{Code: codeTLS, Summary: "TLS options that do not fit", Doc: "`tls { }` counts for https URLs; `cert` and `key` go together; `skip_verify` leaves no meaning to `ca`."},
		{Code: codeTemplate, Summary: "Index template that cannot be made", Doc: "`template { }` needs a name and patterns, which follow from what is fixed in `index`. `lifecycle { }` reaches indices by the template, and a data stream takes `action = \"create\"` alone."},
		{Code: codeLifecycle, Summary: "Lifecycle policy without a meaning", Doc: "`lifecycle { }` begins new indices by age or size (`max_age`, `max_size`, `max_docs`), where `index` has no placeholders that begin them already, and deletes old ones (`delete_after`). Where it begins new ones, documents of an `id` in older ones are out of reach."},
		{Code: codeField, Summary: "Mapping of a field that is not understood", Doc: "`template.fields` maps paths to types of Elasticsearch, or to mappings in JSON."},
		{Code: codePlain, Summary: "Credentials in the clear", Doc: "A warning: `auth { }` is sent over http to another machine. Use https."},
	}
}
