package configs

import (
	"time"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
)

// checkGuarantee reports a guarantee that the ends of the route cannot keep. Kinds of
// sources and sinks say themselves what they cannot; streams can do all, and
// what exactly_once takes beside is looked at here.
func (d *decoder) checkGuarantee(r *Route, diags *diag.Diagnostics) {
	body := d.bodies[r.Addr]
	want := r.Delivery.Guarantee
	refuse := func(option string, a addr.Addr, why string) {
		rng := attrRange(body, option)
		if delivery, ok := body.Blocks["delivery"]; ok {
			if g, written := delivery.Attrs["guarantee"]; written {
				rng = g.Range
			}
		}
		diags.Addf(rng, codeGuarantee, "Guarantee that cannot be kept", "With %s, guarantee = %q cannot be kept: %s.", a, want, why)
	}
	if s := d.c.Sources[r.From.Addr]; s != nil {
		for _, k := range d.catalog.Sources {
			if why := k.Cannot[string(want)]; k.Name == s.Kind && why != "" {
				refuse("from", s.Addr, why)
				return
			}
		}
	}
	if s := d.c.Sinks[r.To.Addr]; s != nil {
		for _, k := range d.catalog.Sinks {
			if why := k.Cannot[string(want)]; k.Name == s.Kind && why != "" {
				refuse("to", s.Addr, why)
				return
			}
		}
	}
	if want == ExactlyOnce {
		d.checkExactlyOnce(r, body, diags)
	}
}

// checkExactlyOnce reports what keeps positions, records and dead letters from being in one transaction.
func (d *decoder) checkExactlyOnce(r *Route, body spec.Body, diags *diag.Diagnostics) {
	from, to := d.c.Streams[r.From.Addr], d.c.Streams[r.To.Addr]
	switch {
	case from == nil:
		diags.Addf(attrRange(body, "from"), codeGuarantee, "Guarantee that cannot be kept", "guarantee = \"exactly_once\" is for routes from a stream to a stream: %s is no stream, so its position cannot be part of a transaction. Use \"at_least_once\".", r.From.Addr)
		return
	case to == nil:
		diags.Addf(attrRange(body, "to"), codeGuarantee, "Guarantee that cannot be kept", "guarantee = \"exactly_once\" is for routes from a stream to a stream: %s is no stream, so it takes part in no transaction. Use \"at_least_once\".", r.To.Addr)
		return
	case from.Cluster != to.Cluster:
		diags.Addf(attrRange(body, "to"), codeGuarantee, "Guarantee that cannot be kept", "guarantee = \"exactly_once\" needs one cluster, since a transaction of Kafka does not reach beyond it: %s is on %s and %s on %s. Use \"at_least_once\", or copy the stream first.", r.From.Addr, clusterName(from), r.To.Addr, clusterName(to))
	}
	if from.Cluster == EmbeddedCluster {
		rng := attrRange(body.Blocks["delivery"], "guarantee")
		diags.Addf(rng, codeGuarantee, "Guarantee that cannot be kept", "guarantee = \"exactly_once\" needs a Kafka cluster: the broker inside the process does not bring its transactions back as they were when it is killed, so that records could be hidden from readers. Declare a cluster, or use \"at_least_once\".")
	}
	if letters := d.c.Streams[r.DeadLetter.Addr]; letters != nil && r.OnError == DeadLetter && letters.Cluster != from.Cluster {
		diags.Addf(attrRange(body, "dead_letter"), codeGuarantee, "Guarantee that cannot be kept", "guarantee = \"exactly_once\" needs the dead letters in the transaction, so on the same cluster: %s is on %s and %s on %s.", r.From.Addr, clusterName(from), r.DeadLetter.Addr, clusterName(letters))
	}
	if sum := r.Delivery.CommitInterval + r.Delivery.DrainTimeout; sum > transactionMax {
		rng := attrRange(body.Blocks["delivery"], "commit_interval")
		if a, ok := body.Blocks["delivery"].Attrs["commit_interval"]; !ok || a.Value == nil {
			rng = attrRange(body.Blocks["delivery"], "drain_timeout")
		}
		diags.Addf(rng, codeGuarantee, "Transaction too long", "A transaction may last commit_interval and drain_timeout together, here %s. Brokers end one after 15m unless they are told otherwise, and readers of the target wait for it: together they may be at most %s with guarantee = \"exactly_once\".", spec.FormatDuration(sum), spec.FormatDuration(transactionMax))
	}
}

// transactionMax is the longest transaction: with what is added for its end it stays below
// transaction.max.timeout.ms of brokers that are left as they are.
const transactionMax = 14 * time.Minute

func clusterName(s *Stream) string {
	if s.Cluster == EmbeddedCluster {
		return "the broker inside the process"
	}
	return s.Cluster.String()
}
