package configs

import "keystone/dsl/types"

// LetterType is what a dead letter is as an event: what the fields of a sink's expressions are taken from
// where the sink takes dead letters.
func LetterType() types.Type {
	text, number := types.Type{Kind: types.String}, types.Type{Kind: types.Int}
	required := func(name string, t types.Type) types.Field { return types.Field{Name: name, Type: t} }
	optional := func(name string, t types.Type) types.Field { return types.Field{Name: name, Type: t, Optional: true} }
	bytes := types.Type{Kind: types.Bytes}
	header := types.Type{Kind: types.Object, Fields: []types.Field{required("key", text), optional("value", text), optional("value_base64", bytes)}}
	return types.Type{Kind: types.Object, Fields: []types.Field{
		required("route", text), required("topic", text), required("partition", number), required("offset", number), optional("identity", text),
		optional("timestamp", types.TimestampMsType), optional("key", text), optional("key_base64", bytes), optional("value", text), optional("value_base64", bytes),
		optional("headers", types.ListOf(header)), required("error_code", text), required("error", text), optional("error_at", text), required("attempts", number),
		required("time", types.Type{Kind: types.TimestampRFC3339}), required("revision", number), optional("replays", number),
	}}
}
