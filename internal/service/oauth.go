package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"rollcall/internal/jobs"
)

// A token is replaced before it ends: earlyToken ahead, or a tenth of its life if that is less.
const earlyToken = time.Minute

// oauth is the client-credentials grant of one service. All its calls share one token.
type oauth struct {
	name   string
	cfg    *Config
	client *http.Client
	secret *watched[string]
	// turn is held by the goroutine that asks for a token; the others wait for that token.
	turn chan struct{}
	// grant belongs to the holder of turn. It has found out how the endpoint wants the credentials, and is
	// made anew when the secret changes or no token was given.
	grant *clientcredentials.Config

	mu    sync.Mutex
	value string // of the Authorization header, empty for none
	// renewAt and endsAt are when the token should, and must, be replaced; zero = never.
	renewAt, endsAt time.Time
}

// newOAuth returns nil for a service without OAuth.
func newOAuth(name string, cfg *Config, deps Deps) (*oauth, error) {
	if cfg.OAuthURL == "" {
		return nil, nil
	}
	o := &oauth{name: name, cfg: cfg, turn: make(chan struct{}, 1)}
	var err error
	o.secret, err = newWatched(Variable(name, "OAUTH_SECRET"), cfg.OAuthSecret, deps.Log, func(s jobs.Secret) (string, error) { return s.Reveal(), nil })
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("read the certificate authorities: %w", err)
		}
		roots.AppendCertsFromPEM(pem)
	}
	d := newDialer(cfg, nil, deps.Resolver)
	o.client = &http.Client{
		Timeout:       cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: unswitched{&http.Transport{
			DialContext: d.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			ForceAttemptHTTP2: true, TLSHandshakeTimeout: handshakeTimeout, MaxResponseHeaderBytes: maxHeader,
			DisableKeepAlives: true, // one request in the life of a token
		}},
	}
	return o, nil
}

// unswitched takes a 101 for an error: its body is the connection itself, and no time-out ends reading
// from that.
type unswitched struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (u unswitched) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := u.RoundTripper.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		return nil, errors.Join(errSwitched, resp.Body.Close())
	}
	return resp, err
}

var errSwitched = errors.New("answered 101 Switching Protocols")

// header returns the value of the Authorization header. A failure is nobody's job.
func (o *oauth) header(ctx context.Context) (string, *jobs.Failure) {
	if value := o.cached(time.Now(), false); value != "" {
		return value, nil
	}
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return "", o.failed(ctx.Err())
	}
	now := time.Now()
	if value := o.cached(now, false); value != "" {
		return value, nil // somebody else got it meanwhile
	}
	err := o.fetch(ctx, now)
	if err == nil {
		return o.cached(now, true), nil
	}
	if value := o.cached(now, true); value != "" {
		return value, nil // it still holds
	}
	return "", o.failed(err)
}

// cached returns the token unless it should be replaced, or with untilEnd unless it must be.
func (o *oauth) cached(now time.Time, untilEnd bool) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	limit := o.renewAt
	if untilEnd {
		limit = o.endsAt
	}
	if !limit.IsZero() && !now.Before(limit) {
		return ""
	}
	return o.value
}

// fetch asks for a new token.
func (o *oauth) fetch(ctx context.Context, now time.Time) error {
	if secret := o.secret.get(); o.grant == nil || o.grant.ClientSecret != secret {
		o.grant = &clientcredentials.Config{
			ClientID: o.cfg.OAuthID, ClientSecret: secret, TokenURL: o.cfg.OAuthURL, Scopes: o.cfg.OAuthScopes,
		}
	}
	token, err := o.grant.Token(context.WithValue(ctx, oauth2.HTTPClient, o.client))
	if err != nil {
		o.grant = nil
		return err
	}
	switch {
	case strings.ContainsFunc(token.AccessToken, notTokenChar) || token.AccessToken == "":
		return errors.New("the access token cannot stand in a header")
	case strings.ContainsFunc(token.Type(), notTokenChar):
		return errors.New("the token_type cannot stand in a header")
	case !token.Expiry.IsZero() && !token.Expiry.After(time.Now()):
		return errors.New("the access token has ended already: look at its expires_in")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.value = token.Type() + " " + token.AccessToken
	o.renewAt, o.endsAt = time.Time{}, token.Expiry
	if life := token.Expiry.Sub(now); !token.Expiry.IsZero() {
		o.renewAt = token.Expiry.Add(-min(earlyToken, life/10))
	}
	return nil
}

// forget drops a token that the service refused, unless another one has come meanwhile.
func (o *oauth) forget(refused string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.value == refused {
		o.value = ""
	}
}

// failed describes a token that could not be had. Refused credentials are a mistake in the
// settings; a token endpoint that is down is none. Nothing was sent to the service.
func (o *oauth) failed(err error) *jobs.Failure {
	f := &jobs.Failure{Reason: jobs.ReasonToken, Free: true}
	if refusal, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		f.Misconfigured = refusal.Response != nil && refusal.Response.StatusCode < 500 && refusal.Response.StatusCode != http.StatusTooManyRequests
		said := jobs.Printable(hide(string(refusal.Body), o.secret.get()), maxQuote)
		status := "an error"
		if refusal.Response != nil {
			status = refusal.Response.Status
		}
		err = fmt.Errorf("answered %s: %s", status, said)
	}
	f.Err = fmt.Errorf("no access token from the endpoint of %s: %w", Variable(o.name, "OAUTH_URL"), err)
	return f
}

// cutScheme splits the value of an Authorization header.
func cutScheme(auth string) (scheme, token string, found bool) { return strings.Cut(auth, " ") }
