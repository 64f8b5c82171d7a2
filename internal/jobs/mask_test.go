package jobs_test

import (
	"testing"

	"rollcall/internal/jobs"
)

func TestURLsAreShownWithoutSecrets(t *testing.T) {
	t.Parallel()
	for urls, want := range map[string]string{
		"nats://127.0.0.1:4222":               "nats://127.0.0.1:4222",
		"nats://a:b@host:4222,tls://t@x":      "nats://***@host:4222,tls://***@x",
		"user:pa@ss@host":                     "***@host",
		"nats://user:%zz@host":                "nats://***@host",
		"nats://host,nats://u:p@other:4222/":  "nats://host,nats://***@other:4222/",
		"nats://u:a,b/c@host":                 "nats://***@host",
		"a:b@h1,c:d@h2":                       "***@h2",
		"billing=http://h/x?key=1,b=http://g": "billing=http://h/x?***,b=http://g",
		"50ms":                                "50ms", "": "",
	} {
		if got := jobs.MaskURLs(urls); got != want {
			t.Errorf("%q is shown as %q, want %q", urls, got, want)
		}
	}
}
