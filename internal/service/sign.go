package service

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"rollcall/internal/jobs"
)

// Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
const (
	secretPrefix    = "whsec_"
	minSecret       = 24
	maxSecret       = 64
	maxSecrets      = 2
	signatureScheme = "v1,"
)

// signer signs calls with one secret, or with two during a rotation.
type signer struct{ secrets [][]byte }

// parseSecrets reads up to two secrets separated by commas or spaces. Errors never show them.
func parseSecrets(secret jobs.Secret) (signer, error) {
	var s signer
	for i, text := range strings.FieldsFunc(secret.Reveal(), func(r rune) bool { return r == ',' || r <= ' ' }) {
		encoded, found := strings.CutPrefix(text, secretPrefix)
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !found || err != nil {
			return signer{}, fmt.Errorf("secret %d is not %s followed by base64; make one with: echo %s$(openssl rand -base64 32)", i+1, secretPrefix, secretPrefix)
		}
		if len(key) < minSecret || len(key) > maxSecret {
			return signer{}, fmt.Errorf("secret %d has %d bytes; the specification asks for %d to %d", i+1, len(key), minSecret, maxSecret)
		}
		s.secrets = append(s.secrets, key)
	}
	if len(s.secrets) > maxSecrets {
		return signer{}, errors.New("more than two secrets; during a rotation set the new and the old one")
	}
	return s, nil
}

// sign returns the timestamp and the signatures for a message, one for each secret.
func (s signer) sign(id string, at time.Time, body []byte) (timestamp, signature string) {
	timestamp = strconv.FormatInt(at.Unix(), 10)
	var b []byte
	for i, key := range s.secrets {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, signatureScheme...)
		b = base64.StdEncoding.AppendEncode(b, mac.Sum(nil))
	}
	return timestamp, string(b)
}
