package wire

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/sources/kafka/embedded"
)

// busy is a route under load with every outcome: the generator's events pass,
// are filtered, and fail.
const busy = `
source "generator" "events" {}

stream "in" {
  partitions = 3
}

stream "out" {}

route "make" {
  from = source.events
  to   = stream.in
  throttle {
    records_per_second = 20000
  }
}

route "r" {
  from   = stream.in
  to     = stream.out
  filter = "meta.offset %% 3 > 0"
  set    = { bad = "1 / (meta.offset %% 5)" }
  batch {
    records = 100
  }
  delivery {
    commit_interval = "50ms"
    guarantee       = "%s"
  }
}
`

// scrape gives the values of /metrics by their names and labels.
func (l *lab) scrape() map[string]float64 {
	l.t.Helper()
	path, err := api.SocketPath(filepath.Join(l.dir, ".keystone"), "default")
	if err != nil {
		l.t.Fatal(err)
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("http://keystone/metrics")
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]float64{}
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if i := strings.LastIndexByte(s.Text(), ' '); !strings.HasPrefix(s.Text(), "#") && i > 0 {
			v, err := strconv.ParseFloat(s.Text()[i+1:], 64)
			if err != nil {
				l.t.Fatal(err)
			}
			out[s.Text()[:i]] = v
		}
	}
	return out
}

// TestMetricsAddUpUnderLoad scrapes while events flow and the route is
// restarted: at every moment what was read is what has an outcome, was given
// up or is in flight, of the route and of each of its lanes.
func TestMetricsAddUpUnderLoad(t *testing.T) {
	for _, g := range []configs.Guarantee{configs.AtLeastOnce, configs.ExactlyOnce, configs.AtMostOnce} {
		t.Run(string(g), func(t *testing.T) {
			text := fmt.Sprintf(busy, g)
			if g != configs.ExactlyOnce {
				metricsAddUp(t, newLab(t, text), g)
				return
			}
			b, err := embedded.Start(t.Context(), embedded.Options{}) // a cluster that outlives the server
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			metricsAddUp(t, newLab(t, fmt.Sprintf("cluster \"main\" {\n  brokers = [%q]\n}\n", b.Addrs()[0])+text, b.Addrs()...), g)
		})
	}
}

func metricsAddUp(t *testing.T, l *lab, g configs.Guarantee) {
	restarts := make(chan error, 1)
	go func() {
		for range 3 {
			if _, err := l.client.Operate(t.Context(), api.Operate{Verb: api.Restart, Addresses: []string{"route.r"}}); err != nil {
				restarts <- err
				return
			}
		}
		restarts <- nil
	}()
	seen := map[string]float64{}
	sums, flying := 0, 0
	enough := func() bool {
		return sums >= 60 && flying > 0 && seen["delivered"] > 0 && seen["filtered"] > 0 && seen["dead_lettered"] > 0
	}
	end := time.Now().Add(patience)
	for restarted := false; !restarted || !enough(); {
		if time.Now().After(end) {
			t.Fatalf("there is too little to add up: %d sums, %v, in flight %d times", sums, seen, flying)
		}
		select {
		case err := <-restarts:
			if err != nil {
				t.Fatal(err)
			}
			restarted = true
		default:
		}
		m := l.scrape()
		route := `route="route.r"`
		sum := m[`keystone_route_abandoned_total{`+route+`}`] + m[`keystone_route_in_flight_records{`+route+`}`]
		reasons := 0.0
		for _, o := range []string{"delivered", "filtered", "dead_lettered", "dropped"} {
			n := m[fmt.Sprintf(`keystone_route_records_total{outcome=%q,%s}`, o, route)]
			sum += n
			seen[o] = max(seen[o], n)
		}
		for name, n := range m {
			if strings.HasPrefix(name, `keystone_route_reasons_total{outcome="dead_lettered"`) && strings.Contains(name, route) {
				reasons += n
			}
		}
		if read := m[`keystone_route_read_total{`+route+`}`]; read != sum || reasons != m[`keystone_route_records_total{outcome="dead_lettered",`+route+`}`] {
			t.Fatalf("read %v, accounted for %v; %v dead letters have a reason", read, sum, reasons)
		}
		for part := range 3 {
			lane := fmt.Sprintf(`partition="%d",%s`, part, route)
			read, there := m[`keystone_lane_read_total{`+lane+`}`]
			if !there {
				continue // between two workers
			}
			sum := m[`keystone_lane_in_flight_records{`+lane+`}`]
			if sum > 0 {
				flying++
			}
			for _, o := range []string{"delivered", "filtered", "dead_lettered", "dropped", "abandoned"} {
				sum += m[fmt.Sprintf(`keystone_lane_records_total{outcome=%q,%s}`, o, lane)]
			}
			if read != sum {
				t.Fatalf("lane %d read %v, accounted for %v", part, read, sum)
			}
			sums++
		}
	}
	l.until("verify has something of everything", func() error {
		r := l.verify(api.VerifyOptions{})
		c := r.Total
		// At most once commits what is not written yet.
		if !r.OK || c.Missing > 0 && g != configs.AtMostOnce {
			t.Fatalf("while it runs: %s: %+v %+v", r.Verdict, c, r.Examples)
		}
		if c.Delivered == 0 || c.Filtered == 0 || c.DeadLettered == 0 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	l.until("the last worker has its lanes", func() error {
		st, err := l.client.StatusOf(t.Context(), addr.New("route", "r"))
		if err == nil && (len(st.Addresses) != 1 || len(st.Addresses[0].Lanes) != 3) {
			err = fmt.Errorf("the status of the route is %+v", st.Addresses)
		}
		return err
	})
}
