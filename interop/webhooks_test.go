package interop_test

import (
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"rollcall/internal/jobs"
)

const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	noSecret  = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// TestTheStandardWebhooksLibraryVerifiesEveryCall goes through a rotation: the service knows
// the old secret, then the new one, and each time the calls are accepted.
func TestTheStandardWebhooksLibraryVerifiesEveryCall(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		signedWith string
		accepts    []string
	}{
		"one":         {oldSecret, []string{oldSecret}},
		"rotation":    {newSecret + "," + oldSecret, []string{oldSecret, newSecret}},
		"after it":    {newSecret, []string{newSecret}},
		"with spaces": {newSecret + " " + oldSecret, []string{oldSecret, newSecret}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config()
			cfg.Secret = jobs.NewSecret(test.signedWith)
			got := capture(t, cfg, batch())
			for _, secret := range test.accepts {
				if err := verify(t, secret, got.body, got); err != nil {
					t.Error(err)
				}
			}
			if verify(t, noSecret, got.body, got) == nil {
				t.Error("accepted with a secret that was not used")
			}
			if verify(t, test.accepts[0], append(got.body, ' '), got) == nil {
				t.Error("accepted with another body")
			}
		})
	}
}

func verify(t *testing.T, secret string, body []byte, got request) error {
	t.Helper()
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return wh.Verify(body, got.header)
}
