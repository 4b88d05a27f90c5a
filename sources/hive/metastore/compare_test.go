package metastore

import (
	"reflect"
	"testing"
)

func TestEvolve(t *testing.T) {
	have := []Column{{"id", "int"}, {"device", "struct<os:string,kind:string>"}, {"tags", "array<string>"}, {"price", "decimal(10,2)"}, {"gone", "string"}, {"odd", "uniontype<int,string>"}}
	for _, tc := range []struct {
		name      string
		want      []Column
		cols      []Column
		conflicts int
	}{
		{"the same", []Column{{"id", "int"}, {"odd", "uniontype<int,string>"}}, have, 0},
		{"narrower is no difference", []Column{{"id", "smallint"}, {"price", "decimal(8,2)"}}, have, 0},
		{"widened", []Column{{"id", "bigint"}, {"price", "decimal(20, 2)"}}, with(with(have, 0, "bigint"), 3, "decimal(20,2)"), 0},
		{"added, at the end", []Column{{"new", "map<string,double>"}}, append(with(have, 0, "int"), Column{"new", "map<string,double>"}), 0},
		{"a field of a struct", []Column{{"device", "struct<os:string,model:string>"}}, with(have, 1, "struct<os:string,kind:string,model:string>"), 0},
		{"a list of something else", []Column{{"tags", "array<bigint>"}}, have, 1},
		{"a float into an int", []Column{{"id", "double"}}, have, 1},
		{"another scale", []Column{{"price", "decimal(10,3)"}}, have, 1},
		{"a struct into a string", []Column{{"gone", "struct<a:int>"}}, have, 1},
		{"what is not understood", []Column{{"odd", "uniontype<int,double>"}}, have, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cols, changes, conflicts := Evolve(have, tc.want)
			if !reflect.DeepEqual(cols, tc.cols) || len(conflicts) != tc.conflicts {
				t.Errorf("columns %v, conflicts %v, want %v and %d", cols, conflicts, tc.cols, tc.conflicts)
			}
			if (len(changes) == 0) != reflect.DeepEqual(cols, have) {
				t.Errorf("changes %q to %v", changes, cols)
			}
			again, changes, _ := Evolve(cols, tc.want)
			if len(changes) != 0 || !reflect.DeepEqual(again, cols) {
				t.Errorf("a second time: %q", changes)
			}
		})
	}
}

func with(cols []Column, i int, typ string) []Column {
	out := append([]Column(nil), cols...)
	out[i].Type = typ
	return out
}

func FuzzType(f *testing.F) {
	for _, s := range []string{"bigint", "map<string,array<struct<a:decimal(3,1),b:varchar(20)>>>", "struct<", "decimal(", "a>b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		typ, err := parseType(s)
		if err != nil {
			return
		}
		again, err := parseType(typ.String())
		if err != nil || !reflect.DeepEqual(again, typ) {
			t.Errorf("%q is %q, which is %+v, %v", s, typ, again, err)
		}
	})
}
