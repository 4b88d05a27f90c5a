package reconcile

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// withJob is the small configuration and a job with two windows.
func withJob() blocks {
	b := plays()
	b.res[must("stream.counts")] = block{"", map[string]string{"cluster": "cluster.main", "partitions": "2"}}
	b.res[must("job.counts")] = block{"", map[string]string{
		"read.plays.from": "stream.plays", "read.plays.watermark": `"10s"`,
		"filter.tv.input": "read.plays", "filter.tv.where": `"a"`,
		"window.by_user.input": "filter.tv", "window.by_user.key": "{}", "window.by_user.allowed_lateness": `"0s"`,
		"write.out.input": "window.by_user", "write.out.to": "stream.counts",
	}}
	return b
}

// TestJobState edits a job: the plan says, operator by operator, what becomes of its state.
func TestJobState(t *testing.T) {
	job := must("job.counts")
	for _, tc := range []struct {
		name               string
		edit               func(b *blocks)
		action             Action
		destructive        bool
		keeps, loses, says string
	}{
		{"text for people", func(b *blocks) { b.set(job, "description", `"x"`) }, Update, false, "", "", "nothing stops"},
		{"a filter has no state", func(b *blocks) { b.set(job, "filter.tv.where", `"b"`) }, Drain, false, "the state of read.plays, window.by_user", "", "nothing is repeated"},
		{"another operator", func(b *blocks) {
			b.set(job, "window.by_title.input", "filter.tv")
			b.set(job, "window.by_title.key", "{t}")
			b.set(job, "write.titles.input", "window.by_title")
			b.set(job, "write.titles.to", "sink.search")
		}, Drain, false, "the state of read.plays, window.by_user", "", "nothing is repeated"},
		{"another key", func(b *blocks) { b.set(job, "window.by_user.key", "{c}") }, Replace, true, "the state of read.plays", "the state of window.by_user", "come from the events after"},
		{"an operator goes", func(b *blocks) {
			for name := range b.res[job].opts {
				if strings.HasPrefix(name, "window.") {
					delete(b.res[job].opts, name)
				}
			}
			b.set(job, "write.out.input", "filter.tv")
		}, Replace, true, "the state of read.plays", "the state of window.by_user", ""},
		{"all of it", func(b *blocks) { b.set(job, "key_groups", "64") }, Replace, true, "", "the state of all operators", "a new generation begins"},
		{"another topic of what it reads", func(b *blocks) { b.set(must("stream.plays"), "topic", `"other"`) }, Replace, true, "", "the state of all operators", "a new generation begins"},
		{"another topic of what it writes", func(b *blocks) { b.set(must("stream.counts"), "topic", `"other"`) }, Drain, false, "the state of read.plays, window.by_user", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := withJob()
			o := AsApplied(b.config(), time.Unix(1, 0))
			tc.edit(&b)
			c := change(t, Diff(goalOf(b), o, time.Unix(2, 0)), "job.counts")
			keeps, loses := strings.Join(c.Impact.KeepsState, "; "), strings.Join(c.Impact.LosesState, "; ")
			if c.Action != tc.action || c.Destructive != tc.destructive || keeps != tc.keeps || loses != tc.loses || !strings.Contains(c.Impact.RepeatNote, tc.says) {
				t.Errorf("%s destructive=%v keeps %q loses %q, %q\n%+v", c.Action, c.Destructive, keeps, loses, c.Impact.RepeatNote, c.Options)
			}
		})
	}
	b := withJob()
	delete(b.res, job)
	c := change(t, Diff(goalOf(b), AsApplied(withJob().config(), time.Unix(1, 0)), time.Unix(2, 0)), "job.counts")
	if c.Action != Delete || c.Destructive || len(c.Impact.KeepsState) != 1 {
		t.Errorf("removed: %+v", c)
	}
	if got := fmt.Sprint(dependsOn(withJob().config(), job)); got != "[stream.plays stream.counts cluster.main]" {
		t.Errorf("depends on %s", got)
	}
	if got := fmt.Sprint(refersTo(resourceOf(withJob().config(), job))); got != "[stream.counts stream.plays]" {
		t.Errorf("refers to %s", got)
	}
}
