package wire

import (
	"errors"
	"fmt"
	"testing"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/reconcile"
)

func TestRoutesOf(t *testing.T) {
	goal := &configs.Config{Routes: map[addr.Addr]*configs.Route{}}
	for _, name := range []string{"route.plays", "route.plain", `route.eu["a/b"]`, `route.eu["c"]`} {
		a, err := addr.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		goal.Routes[a] = &configs.Route{}
	}
	gone := addr.New("route", "gone")
	holds := map[addr.Addr]reconcile.Hold{gone: {Addr: gone}}
	for _, tc := range []struct {
		asked string
		want  string
	}{
		{"route.plays", "[route.plays]"},
		{"route.pla*", "[route.plain route.plays]"},
		{"*ay*", "[route.plays]"},
		{"route.p*a*s", "[route.plays]"},
		{"route.eu", `[route.eu["a/b"] route.eu["c"]]`},
		{`route.eu["a*`, `[route.eu["a/b"]]`},
		{"route.gone", "[route.gone]"},
		{"route.pla", "not found"},
		{"*z*", "not found"},
		{"route.plays*s", "not found"}, // the ends may not overlap
	} {
		got, err := routesOf(goal, holds, api.Operate{Addresses: []string{tc.asked}})
		text := fmt.Sprint(got)
		if _, ok := errors.AsType[*api.NotFoundError](err); ok {
			text = "not found"
		}
		if text != tc.want {
			t.Errorf("%s: %s, %v, want %s", tc.asked, text, err, tc.want)
		}
	}
	if all, err := routesOf(goal, holds, api.Operate{All: true}); err != nil || len(all) != 5 {
		t.Errorf("all: %v, %v", all, err)
	}
	if _, err := routesOf(nil, nil, api.Operate{All: true}); !errors.Is(err, api.ErrUnsupported) {
		t.Errorf("of nothing: %v", err)
	}
}
