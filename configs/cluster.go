package configs

import (
	"net"
	"strconv"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
)

// Options declares the block cluster.
func (c *Cluster) Options() spec.Options {
	tls, sasl := &c.TLS, &c.SASL
	return spec.Options{
		spec.Strings("brokers", &c.Brokers, "Addresses of brokers to begin with, HOST:PORT each; the others are found through them.").Required().Eg(`["127.0.0.1:9092"]`).Also("bootstrap_servers", "servers", "hosts", "addresses", "urls"),
		spec.String("client_id", &c.ClientID, "How Keystone names itself to the brokers, in their logs and quotas.").Default("keystone"),
		spec.Duration("dial_timeout", &c.DialAfter, "How long connecting to one broker may take.").Default(10*time.Second).Between(0.1, 300),
		spec.Nested("tls", "Speak TLS to the brokers. An empty block uses the system's certificate authorities.", spec.Options{
			spec.Sensitive("ca", &tls.CA, "Certificates of the authorities to trust, in PEM.").Eg(`file("ca.pem")`),
			spec.Sensitive("cert", &tls.Cert, "Client certificate, in PEM.").Eg(`file("client.pem")`),
			spec.Sensitive("key", &tls.Key, "Key of the client certificate, in PEM.").Eg(`file("client.key")`),
			spec.String("server_name", &tls.ServerName, "Name that the brokers' certificates must have, where it is not their host name."),
			spec.Bool("skip_verify", &tls.SkipVerify, "Accept any certificate. Anybody between may then read and change everything."),
		}).Presence(&tls.Enabled),
		spec.Nested("sasl", "Prove who Keystone is.", spec.Options{
			spec.Enum("mechanism", &sasl.Mechanism, "How to prove it.", "plain", "scram_sha_256", "scram_sha_512").Required(),
			spec.Sensitive("username", &sasl.Username, "Name of the user.").Required().MayBeWritten().Eg(`env("KAFKA_USER")`),
			spec.Sensitive("password", &sasl.Password, "Password of the user.").Required().Eg(`env("KAFKA_PASSWORD")`),
		}),
	}
}

// check reports what the declarations cannot express.
func (c *Cluster) check(body spec.Body, diags *diag.Diagnostics) {
	rng := attrRange(body, "brokers")
	if len(c.Brokers) == 0 {
		diags.Addf(rng, codeBlockValue, "No brokers", "A cluster has at least one broker. Without any cluster block Keystone uses its own broker inside the process.")
	}
	for _, b := range c.Brokers {
		host, port, err := net.SplitHostPort(b)
		n, portErr := strconv.Atoi(port)
		if err != nil || host == "" || portErr != nil || n < 1 || n > 65535 {
			diags.Addf(rng, codeBlockValue, "Not an address", "%q is not HOST:PORT, such as \"127.0.0.1:9092\".", b)
		}
	}
	if c.TLS.Cert.IsZero() != c.TLS.Key.IsZero() {
		diags.Addf(body.Blocks["tls"].Range, codeBlockValue, "Half a client certificate", "cert and key go together.")
	}
	if c.TLS.SkipVerify && !c.TLS.CA.IsZero() {
		diags.Addf(body.Blocks["tls"].Range, codeBlockValue, "Contradiction", "skip_verify accepts any certificate, so ca has no meaning. Remove one of them.")
	}
}

// attrRange gives where an option is written, or the block's header.
func attrRange(body spec.Body, name string) diag.Range {
	if a, ok := body.Attrs[name]; ok {
		return a.Range
	}
	return body.Range
}
