// Package admin provisions topics and observes them: what the control plane
// asks of a Kafka cluster. Every call takes many topics or groups and sends
// few requests, since there may be ten thousand of them.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/sources/kafka/client"
)

// chunk is how many topics or groups go into one request.
const chunk = 500

// Admin speaks to one cluster. It is safe for concurrent use.
type Admin struct {
	opts   client.Options
	health *client.Health
	cl     *kgo.Client
	adm    *kadm.Client
}

// New makes an Admin; it does no I/O.
func New(o client.Options) (*Admin, error) {
	h := &client.Health{}
	opts, err := o.Kgo(h)
	if err != nil {
		return nil, err
	}
	// A control plane tries again by itself; it wants to hear soon.
	opts = append(opts, kgo.RetryTimeout(10*time.Second), kgo.RequestTimeoutOverhead(5*time.Second), kgo.MetadataMinAge(100*time.Millisecond))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	return &Admin{opts: o, health: h, cl: cl, adm: kadm.NewClient(cl)}, nil
}

// Close frees the connections.
func (a *Admin) Close() { a.cl.Close() }

// Ping tells whether the cluster answers; the error says what to do.
func (a *Admin) Ping(ctx context.Context) error {
	if err := a.cl.Ping(ctx); err != nil {
		return a.explain("connect", err)
	}
	return nil
}

// ClusterID asks for the cluster's id.
func (a *Admin) ClusterID(ctx context.Context) (string, error) {
	id, _, err := client.Topics(ctx, a.cl)
	if err != nil {
		return "", a.explain("read the cluster's id", err)
	}
	return id, nil
}

func (a *Admin) explain(what string, err error) error {
	return a.opts.Explain(what, a.health.Because(err))
}

// Refused tells whether an error of this package is about credentials,
// permissions or certificates: trying again does not help.
func Refused(err error) bool { return client.Refused(err) }

// metadata gives the details of topics. Those that are missing are left out;
// Err is set on those that cannot be described.
func (a *Admin) metadata(ctx context.Context, topics []string) (string, map[string]client.Topic, error) {
	out := make(map[string]client.Topic, len(topics))
	cluster := ""
	for part := range slices.Chunk(topics, chunk) {
		var id string
		var found map[string]client.Topic
		err := again(ctx, func() (err error) { id, found, err = client.Topics(ctx, a.cl, part...); return err })
		if err != nil {
			return "", nil, a.explain("describe topics", err)
		}
		cluster = id
		for name, t := range found {
			switch {
			case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
				continue
			case t.Err != nil && !kerr.IsRetriable(t.Err):
				t.Err = a.explain("describe topic "+name, t.Err)
			default:
				t.Err = nil // a leader is missing for the moment
			}
			out[name] = t
		}
	}
	if cluster == "" {
		id, err := a.ClusterID(ctx)
		if err != nil {
			return "", nil, err
		}
		cluster = id
	}
	return cluster, out, nil
}

// configs gives the configuration of topics that exist.
func (a *Admin) configs(ctx context.Context, topics []string) (map[string]map[string]config, error) {
	out := make(map[string]map[string]config, len(topics))
	for part := range slices.Chunk(topics, chunk) {
		var rcs kadm.ResourceConfigs
		err := again(ctx, func() (err error) { rcs, err = a.adm.DescribeTopicConfigs(ctx, part...); return err })
		if err != nil {
			return nil, a.explain("describe the configuration of topics", err)
		}
		for _, rc := range rcs {
			if errors.Is(rc.Err, kerr.UnknownTopicOrPartition) {
				continue
			}
			if rc.Err != nil {
				return nil, a.explain("describe the configuration of topic "+rc.Name, rc.Err)
			}
			m := make(map[string]config, len(rc.Configs))
			for _, c := range rc.Configs {
				if !c.Sensitive {
					m[c.Key] = config{value: c.MaybeValue(), own: c.Source == kmsg.ConfigSourceDynamicTopicConfig}
				}
			}
			out[rc.Name] = m
		}
	}
	return out, nil
}

type config struct {
	value string
	own   bool // set on the topic itself
}

// again asks up to three times where a broker has hung up: requests to several
// brokers at once are not repeated by the library, and after a broker's
// restart the first one meets its old connection. Who has waited in vain does not wait again.
func again(ctx context.Context, f func() error) error {
	wait := 50 * time.Millisecond
	for range 2 {
		err := f()
		if err == nil || timedOut(err) || !kgo.IsRetryableBrokerErr(err) && !kerr.IsRetriable(err) && !errors.Is(err, io.EOF) {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
		wait *= 4
	}
	return f()
}

func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// await asks until ok holds, more and more seldom, and gives up with ctx.
func await(ctx context.Context, what string, ok func() (bool, error)) error {
	wait := 10 * time.Millisecond
	for {
		done, err := ok()
		if done {
			return nil
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%s: %w", what, errors.Join(ctx.Err(), err))
		case <-t.C:
		}
		wait = min(2*wait, time.Second)
	}
}
