package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Explain says what a failure of a request means and what to do about it. It
// names the brokers and what was tried; err stays in the chain.
func (o Options) Explain(what string, err error) error {
	if err == nil {
		return nil
	}
	at := "the cluster at " + strings.Join(o.Brokers, ", ")
	var eof *kgo.ErrFirstReadEOF
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("%s: %s refused the credentials (SASL %s); check sasl.username and sasl.password: %w", what, at, o.mechanismName(), err)
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Errorf("%s: %s does not offer SASL %s; set sasl.mechanism to one that it does: %w", what, at, o.mechanismName(), err)
	case errors.Is(err, kerr.IllegalSaslState):
		return fmt.Errorf("%s: %s asks for other credentials than SASL %s: %w", what, at, o.mechanismName(), err)
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed),
		errors.Is(err, kerr.ClusterAuthorizationFailed), errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return fmt.Errorf("%s: %s does not allow this; give the user the missing permission: %w", what, at, err)
	case isCertificate(err):
		return fmt.Errorf("%s: the certificate of %s is not trusted; set tls.ca, or tls.server_name if only the name differs: %w", what, at, err)
	case errors.As(err, new(*HandshakeError)):
		return fmt.Errorf("%s: %s does not answer a TLS handshake; is it a plain listener? %w", what, at, err)
	case errors.As(err, &eof):
		hint := "it may expect TLS"
		if o.SASL == nil {
			hint = "it may expect TLS or SASL"
		} else if o.TLS != nil {
			hint = "it may expect other credentials, or no TLS"
		}
		return fmt.Errorf("%s: %s closed the connection at once; %s: %w", what, at, hint, err)
	case errors.Is(err, io.EOF) && o.SASL != nil:
		return fmt.Errorf("%s: %s closed the connection; it may have refused the credentials (SASL %s): %w", what, at, o.mechanismName(), err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s: %s closed the connection: %w", what, at, err)
	case errors.Is(err, context.DeadlineExceeded), timedOut(err):
		return fmt.Errorf("%s: no answer from %s in time: %w", what, at, err)
	case strings.Contains(err.Error(), dialing):
		return fmt.Errorf("%s: cannot connect to %s; does it run there? %w", what, at, err)
	}
	return fmt.Errorf("%s on %s: %w", what, at, err)
}

// timedOut tells a connection on which nothing came within its time.
func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func (o Options) mechanismName() string {
	if o.SASL == nil {
		return "none"
	}
	return strings.ToUpper(strings.ReplaceAll(o.SASL.Mechanism, "_", "-"))
}

func isCertificate(err error) bool {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid)
}

// Silent tells whether err came about without a word of a broker: nothing that was asked for
// was done, or nobody can know. nil did not.
func Silent(err error) bool {
	var said *kerr.Error
	var network net.Error
	var eof *kgo.ErrFirstReadEOF
	return !errors.As(err, &said) && (errors.As(err, &network) || errors.As(err, &eof) || errors.As(err, new(*HandshakeError)) || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded))
}

// Refused tells whether trying again with the same options cannot help:
// credentials, permissions, certificates.
func Refused(err error) bool {
	for _, k := range []*kerr.Error{
		kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState,
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.TransactionalIDAuthorizationFailed,
	} {
		if errors.Is(err, k) {
			return true
		}
	}
	return isCertificate(err)
}
