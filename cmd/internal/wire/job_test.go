package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
	"keystone/configs/addr"
)

const jobConfig = `
stream "in" {
  partitions = 1
  schema = object({
    user = string
    ts   = timestamp_ms
  })
}

stream "out" {
  partitions = 1
}

job "counts" {
  %s

  checkpoint {
    interval = "1s"
  }

  read "in" {
    from       = stream.in
    event_time = "ts"
    watermark  = "0s"
    max_ahead  = "0s"
    start      = "latest"
  }

  window "by_user" {
    input = read.in
    key   = { user = "user" }
    tumbling {
      size = "1m"
    }
    aggregate = { events = "count()" }
  }

  write "out" {
    input = window.by_user
    to    = stream.out
  }
}
`

func jobStatus(l *lab) (api.AddressStatus, error) {
	st, err := l.client.Status(l.t.Context())
	if err != nil {
		return api.AddressStatus{}, err
	}
	for _, a := range st.Addresses {
		if a.Addr == "job.counts" {
			if a.Health != "running" || a.Job == nil {
				return a, fmt.Errorf("it is %s: %s", a.Health, a.Error)
			}
			return a, nil
		}
	}
	return api.AddressStatus{}, errors.New("there is no job")
}

// rowsOf gives the counts of the windows, by window_start: the last row of each.
func rowsOf(l *lab) map[int64]int64 {
	l.t.Helper()
	out := map[int64]int64{}
	ends, err := l.adm.ListEndOffsets(l.t.Context(), "out")
	if err != nil {
		l.t.Fatal(err)
	}
	end, _ := ends.Lookup("out", 0)
	if end.Offset == 0 {
		return out
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.kafka.OptValue(kgo.SeedBrokers).([]string)...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"out": {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		l.t.Fatal(err)
	}
	defer cl.Close()
	for read := int64(0); read < end.Offset; {
		cl.PollFetches(l.t.Context()).EachRecord(func(r *kgo.Record) {
			var row struct {
				Start  int64 `json:"window_start"`
				Events int64 `json:"events"`
			}
			if err := json.Unmarshal(r.Value, &row); err != nil {
				l.t.Fatalf("row %s: %v", r.Value, err)
			}
			out[row.Start], read = row.Events, r.Offset+1
		})
	}
	return out
}

// A job whose state is lost with its machine goes on from its last checkpoint, with what its windows had; one that is to begin
// afresh does not.
func TestJobGoesOnFromACheckpoint(t *testing.T) {
	for _, tc := range []struct {
		restore string
		kept    bool
	}{{"", true}, {`restore = "fresh"`, false}} {
		t.Run(tc.restore, func(t *testing.T) {
			l := newLab(t, fmt.Sprintf(jobConfig, tc.restore))
			produced := int64(0)
			add := func(ts int64) {
				l.produce(&kgo.Record{Topic: "in", Value: fmt.Appendf(nil, `{"user":"ana","ts":%d}`, ts)})
				produced++
			}
			var epoch int64
			l.until("an event is counted", func() error {
				a, err := jobStatus(l)
				if err != nil {
					return err
				}
				add(60_000)
				if epoch = a.Job.Epoch; a.Counters.Read == 0 {
					return errors.New("none was read")
				}
				return nil
			})
			l.until("a checkpoint has it", func() error {
				add(60_000)
				a, err := jobStatus(l)
				if err == nil && (a.Job.Checkpoint == nil || a.Job.Checkpoint.Epoch < epoch+2) {
					err = fmt.Errorf("checkpoint %+v, epoch %d", a.Job.Checkpoint, epoch)
				}
				return err
			})
			l.stop()
			dir := filepath.Join(l.dir, ".keystone", "default", "jobs")
			if _, err := os.Stat(filepath.Join(dir, "counts")); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			l.serve()
			before := produced
			l.until("the window is closed", func() error {
				add(60_000)
				add(120_000) // behind the window
				if _, ok := rowsOf(l)[60_000]; !ok {
					return errors.New("there is no row")
				}
				return nil
			})
			got := rowsOf(l)[60_000]
			if tc.kept && (got < 3 || got > before+1) || !tc.kept && got != 1 {
				t.Errorf("%d events in the window; %d were there before the state was lost", got, before)
			}
			a, err := jobStatus(l)
			if err != nil || a.Job.Generation != 2 {
				t.Errorf("generation %+v, %v, want 2", a.Job, err)
			}
		})
	}
}

// The state of a job moves with its name, and is given up where it is replaced.
func TestJobStateMovesAndIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	from, to := addr.New("job", "a"), addr.New("job", "b")
	if err := moveJobState(dir, from, to); err != nil {
		t.Errorf("none: %v", err)
	}
	if err := os.MkdirAll(jobDir(dir, from), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := moveJobState(dir, from, to); err != nil {
		t.Fatal(err)
	}
	if err := moveJobState(dir, from, to); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := os.MkdirAll(jobDir(dir, from), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := moveJobState(dir, from, to); err == nil {
		t.Error("state that is there was overwritten")
	}
}

// What is for people changes while the job runs; the key of a window, whose state would be lost, waits for somebody to agree.
func TestJobChanges(t *testing.T) {
	l := newLab(t, fmt.Sprintf(jobConfig, ""))
	l.edit(fmt.Sprintf(jobConfig, `description = "x"`))
	l.until("the text is taken without a restart", func() error {
		st, err := l.client.Status(t.Context())
		if err == nil && st.Serial != 2 {
			err = fmt.Errorf("serial %d", st.Serial)
		}
		return err
	})
	a, err := jobStatus(l)
	if err != nil || a.Restarts != 0 || time.Since(a.Since) < 0 {
		t.Errorf("%+v, %v", a, err)
	}
	cfg, diags := l.load()
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	l.until("nothing is left to be done", func() error {
		plan, err := l.client.Plan(t.Context(), cfg, api.PlanOptions{})
		if err == nil && len(plan.Changes) != 0 {
			err = fmt.Errorf("plan %+v", plan.Changes)
		}
		return err
	})
	l.until("an event of a window that stays open is read", func() error {
		l.produce(&kgo.Record{Topic: "in", Value: []byte(`{"user":"ana","ts":60000}`)})
		a, err := jobStatus(l)
		if err == nil && (a.Counters.Read == 0 || a.Job.Epoch < 3) {
			err = errors.New("not yet")
		}
		return err
	})
	l.edit(strings.Replace(fmt.Sprintf(jobConfig, `description = "x"`), `{ user = "user" }`, `{ who = "user" }`, 1))
	l.until("the loss waits for an apply", func() error {
		st, err := l.client.Status(t.Context())
		if err == nil && len(st.Waiting) != 1 {
			err = fmt.Errorf("waiting: %v", st.Waiting)
		}
		return err
	})
	if cfg, diags = l.load(); diags.Err() != nil {
		t.Fatal(diags.Err())
	}
	plan, err := l.client.Plan(t.Context(), cfg, api.PlanOptions{})
	if err != nil || len(plan.Changes) != 1 || !slices.Equal(plan.Changes[0].Impact.LosesState, []string{"the state of window.by_user"}) {
		t.Errorf("plan %+v, %v", plan.Changes, err)
	}
	if _, err := l.client.Apply(t.Context(), cfg, api.ApplyOptions{Serial: plan.Serial}, func(api.ApplyEvent) {}); err != nil {
		t.Fatal(err)
	}
	// The window begins empty: what it counted by the other key is given up, and what the read had is kept.
	l.until("the job runs with the other key", func() error {
		a, err := jobStatus(l)
		if err != nil {
			return err
		}
		l.produce(&kgo.Record{Topic: "in", Value: []byte(`{"user":"ana","ts":200000}`)}, &kgo.Record{Topic: "in", Value: []byte(`{"user":"ana","ts":300000}`)})
		if rows := rowsOf(l); rows[180_000] == 0 {
			return fmt.Errorf("rows %v, %+v", rows, a.Job)
		}
		return nil
	})
	if rows := rowsOf(l); rows[60_000] != 0 {
		t.Errorf("rows %v: what the window had was kept", rows)
	}
}
