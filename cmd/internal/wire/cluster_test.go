package wire

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const onCluster = `
cluster "main" {
  brokers = [%q]
}

stream "in" {}

sink "discard" "out" {}

route "r" {
  from = stream.in
  to   = sink.out
}
`

// TestClusterEditedInPlace: streams are looked at where their cluster is now, and mended there. Nobody
// asks the old brokers any more.
func TestClusterEditedInPlace(t *testing.T) {
	var at [2]*kfake.Cluster
	var adm [2]*kadm.Client
	for i := range at {
		c, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		at[i], adm[i] = c, kadm.NewClient(cl)
	}
	first, second := at[0].ListenAddrs(), at[1].ListenAddrs()
	l := newLab(t, fmt.Sprintf(onCluster, first[0]), first...)
	l.change(fmt.Sprintf(onCluster, second[0]), 2)
	there := func() error {
		topics, err := adm[1].ListTopics(t.Context(), "in")
		if err == nil && !topics.Has("in") {
			err = errors.New("the topic is not there")
		}
		return err
	}
	l.until("the stream is made on the other cluster", there)
	at[0].Close()
	if _, err := adm[1].DeleteTopic(t.Context(), "in"); err != nil {
		t.Fatal(err)
	}
	l.until("it is made again where it is missing", there)
	l.until("everything runs", func() error {
		st, err := l.client.Status(t.Context())
		for _, a := range st.Addresses {
			if a.Addr != "route.r" && a.Health != "running" { // the route's topic is another one now, which is an operator's to decide
				err = errors.Join(err, fmt.Errorf("%s is %s: %s", a.Addr, a.Health, a.Error))
			}
		}
		return err
	})
}
