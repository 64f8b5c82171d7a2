package bus

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"
)

// ErrSetting is returned by [Connect] for a setting that cannot work on any server: a file that
// is not there, or does not hold what it should.
var ErrSetting = errors.New("a setting names a file that cannot be used")

// CheckFiles returns what is wrong with the files that the settings name, joined; each fault
// names its variable and wraps [ErrSetting]. nats.go would only fail to connect, again and again.
func (c Config) CheckFiles() error {
	var faults []error
	creds := "NATS_CREDS"
	if c.OpsCreds != "" && c.Creds == c.OpsCreds {
		creds = "NATS_OPS_CREDS"
	}
	for _, file := range []struct {
		name, path string
		check      func(path string) error
	}{{creds, c.Creds, checkCreds}, {"NATS_NKEY", c.NKey, checkSeed}, {"NATS_CA", c.CA, checkAuthorities}} {
		if file.path == "" {
			continue
		}
		if err := file.check(file.path); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w: %w", file.name, ErrSetting, err))
		}
	}
	if c.Cert != "" && c.Key != "" {
		if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
			faults = append(faults, fmt.Errorf("NATS_CERT, NATS_KEY: %w: %w", ErrSetting, err))
		}
	}
	return errors.Join(faults...)
}

func checkCreds(path string) error {
	text, err := os.ReadFile(path)
	if err == nil && !bytes.Contains(text, []byte("BEGIN NATS USER JWT")) {
		err = fmt.Errorf("%s holds no user JWT; `nsc generate creds` writes such a file", path)
	}
	return err
}

func checkSeed(path string) error {
	_, err := nats.NkeyOptionFromSeed(path)
	return err
}

func checkAuthorities(path string) error {
	text, err := os.ReadFile(path)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
		err = fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return err
}
