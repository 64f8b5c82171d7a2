package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Time limits of the steps before a request is sent; the time-out of a try bounds them all.
const (
	dialTimeout      = 3 * time.Second
	handshakeTimeout = 5 * time.Second
)

// errForbidden is the cause of a refused connection to a link-local or metadata address.
var errForbidden = errors.New("link-local and cloud metadata addresses are never called")

// forbidden reports whether an address could give away credentials of the machine itself. Most
// clouds serve them at link-local addresses; the others are listed.
func forbidden(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	switch addr.String() {
	case "fd00:ec2::254", "fd00:ec2::23", // AWS: instances, EKS pods
		"fd20:ce::254",    // Google
		"100.100.100.200", // Alibaba
		"192.0.0.192",     // Oracle
		"168.63.129.16":   // Azure's wire server
		return true
	}
	return addr.IsLinkLocalUnicast()
}

// checkLiteral refuses a URL whose host is itself a forbidden address; names are checked when
// they are resolved.
func checkLiteral(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil && forbidden(addr) {
		return fmt.Errorf("%s: %w", host, errForbidden)
	}
	return nil
}

// dialer opens connections to one service.
type dialer struct {
	net.Dialer
	tls       *tls.Config // nil for plain HTTP
	handshake time.Duration
}

func newDialer(cfg *Config, tlsConfig *tls.Config, resolver *net.Resolver) *dialer {
	return &dialer{
		Dialer: net.Dialer{
			Timeout: min(dialTimeout, cfg.Timeout), KeepAlive: 15 * time.Second,
			Resolver: resolver, Control: refuseForbidden,
		},
		tls: tlsConfig, handshake: min(handshakeTimeout, cfg.Timeout),
	}
}

// refuseForbidden is a [net.Dialer.Control]: it sees every address after it was resolved, so
// that a name cannot lead where a literal address may not.
func refuseForbidden(_, address string, _ syscall.RawConn) error {
	if ap, err := netip.ParseAddrPort(address); err == nil && forbidden(ap.Addr()) {
		return fmt.Errorf("%s: %w", ap.Addr(), errForbidden)
	}
	return nil
}

// tlsError is a failed handshake: the certificates or versions of the two sides do not
// agree, which only a person can fix.
type tlsError struct{ err error }

func (e *tlsError) Error() string {
	if _, plain := errors.AsType[tls.RecordHeaderError](e.err); plain {
		return "TLS handshake: " + e.err.Error() + "; the service speaks no TLS there: is its URL http://?"
	}
	return "TLS handshake: " + e.err.Error() + "; check the certificate of the service and the _CA, _CERT and _KEY variables"
}

func (e *tlsError) Unwrap() error { return e.err }

// dialTLS connects and shakes hands. It exists to distinguish errors of the handshake from
// what goes wrong in the network: net/http returns both as errors of the same kind.
func (d *dialer) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := d.dialDirect(ctx, network, address)
	if err != nil {
		return nil, err
	}
	config := d.tls
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	ctx, cancel := context.WithTimeout(ctx, d.handshake)
	defer cancel()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		if isNetwork(err) {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		return nil, &tlsError{err}
	}
	if c, ok := raw.(*direct); ok {
		c.shared = conn.ConnectionState().NegotiatedProtocol == "h2"
	}
	return conn, nil
}

// isNetwork reports whether a connection broke or took too long, as opposed to a peer that
// said something unacceptable.
func isNetwork(err error) bool {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return true
	}
	_, isErrno := errors.AsType[syscall.Errno](err)
	return isErrno || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// tlsConfig reads the certificate files of the service. The error joins all faults.
func (c *Config) tlsConfig(name string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	var faults []error
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		config.RootCAs = x509.NewCertPool()
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("%s: read the certificate authorities: %w", Variable(name, "CA"), err))
		case !config.RootCAs.AppendCertsFromPEM(pem):
			faults = append(faults, fmt.Errorf("%s: %s holds no certificate in PEM", Variable(name, "CA"), c.CA))
		}
	}
	if c.Cert != "" && c.Key != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: load the client certificate: %w", Variable(name, "CERT"), err))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, errors.Join(faults...)
}
