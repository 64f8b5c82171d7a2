package otlp

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

const (
	// prefix begins the names of all settings; those of traces alone, where set, go first.
	prefix = "OTEL_EXPORTER_OTLP_"
	// protocol is the one that is spoken: every collector takes it.
	protocol = "http/protobuf"
	// defaultEndpoint and defaultTimeout are the specification's.
	defaultEndpoint = "http://localhost:4318"
	defaultTimeout  = 10 * time.Second
	// tracesPath is where an endpoint for all signals takes traces.
	tracesPath = "/v1/traces"
)

// settings say where spans go and how.
type settings struct {
	endpoint string
	header   http.Header
	// masked are the spellings of the values of these headers: no error repeats them.
	masked []string
	gzip   bool
	// timeout bounds an export with all its attempts.
	timeout time.Duration
	tls     *tls.Config
}

// setting returns the value of OTEL_EXPORTER_OTLP_TRACES_name, else of OTEL_EXPORTER_OTLP_name, and
// which of the two it is.
func setting(getenv func(string) string, name string) (value, variable string) {
	variable = prefix + "TRACES_" + name
	if value = strings.TrimSpace(getenv(variable)); value == "" {
		variable = prefix + name
		value = strings.TrimSpace(getenv(variable))
	}
	return value, variable
}

// readSettings reads the variables of the specification. The error joins all faults, each of which
// names its variable.
func readSettings(getenv func(string) string) (settings, error) {
	s := settings{timeout: defaultTimeout}
	var faults []error
	note := func(variable string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", variable, err))
		}
	}
	if value, variable := setting(getenv, "PROTOCOL"); value != "" && value != protocol {
		note(variable, fmt.Errorf("%q is not spoken, only %s is; collectors take it on port 4318", value, protocol))
	}
	value, variable := setting(getenv, "ENDPOINT")
	var err error
	s.endpoint, err = endpoint(cmp.Or(value, defaultEndpoint), variable == prefix+"ENDPOINT")
	note(variable, err)
	value, variable = setting(getenv, "HEADERS")
	s.header, s.masked, err = headers(value)
	note(variable, err)
	switch value, variable = setting(getenv, "COMPRESSION"); value {
	case "", "none":
	case "gzip":
		s.gzip = true
	default:
		note(variable, fmt.Errorf("%q is unknown, want gzip or none", value))
	}
	if value, variable = setting(getenv, "TIMEOUT"); value != "" {
		ms, err := strconv.ParseUint(value, 10, 31)
		if err != nil || ms == 0 {
			note(variable, fmt.Errorf("%q is no number of milliseconds above 0", value))
		}
		s.timeout = time.Duration(ms) * time.Millisecond
	}
	s.tls, err = tlsConfig(getenv)
	faults = append(faults, err)
	return s, errors.Join(faults...)
}

// endpoint returns the address that spans are posted to. An endpoint for all signals is where their
// paths begin; one for traces is taken as it is.
func endpoint(value string, allSignals bool) (string, error) {
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", errors.New("want a URL like http://otel-collector:4318 or https://…") // it may hold a password
	}
	if allSignals {
		u = u.JoinPath(tracesPath)
	}
	return u.String(), nil
}

// headers reads name=value,name=value; values may be percent-encoded. It also returns how the values may be
// spelled.
func headers(value string) (header http.Header, masked []string, err error) {
	header = http.Header{}
	var secrets []string
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		name, text, ok := strings.Cut(entry, "=")
		name = strings.TrimSpace(name)
		text, err := url.PathUnescape(strings.TrimSpace(text))
		if !ok || err != nil || !jobs.IsHeaderName(name) || !jobs.IsHeaderValue(text) {
			return nil, nil, errors.New("want name=value, and commas between several; what HTTP does not allow in a value is percent-encoded")
		}
		header.Set(name, text)
		secrets = append(secrets, text)
	}
	return header, jobs.Spellings(secrets), nil
}

// tlsConfig reads the certificate files; nil if there are none. The error joins all faults.
func tlsConfig(getenv func(string) string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var faults []error
	ca, caVariable := setting(getenv, "CERTIFICATE")
	if ca != "" {
		pem, err := os.ReadFile(ca)
		config.RootCAs = x509.NewCertPool()
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("%s: %w", caVariable, err))
		case !config.RootCAs.AppendCertsFromPEM(pem):
			faults = append(faults, fmt.Errorf("%s: %s holds no certificate in PEM", caVariable, ca))
		}
	}
	cert, certVariable := setting(getenv, "CLIENT_CERTIFICATE")
	key, keyVariable := setting(getenv, "CLIENT_KEY")
	if (cert == "") != (key == "") {
		faults = append(faults, fmt.Errorf("%s and %s go together, and only one is set", certVariable, keyVariable))
	} else if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s, %s: %w", certVariable, keyVariable, err))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if ca == "" && cert == "" {
		config = nil
	}
	return config, errors.Join(faults...)
}
