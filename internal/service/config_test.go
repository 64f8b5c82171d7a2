package service_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kelseyhightower/envconfig"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// TestConfigFromTheEnvironment is not parallel: it sets variables of the process.
func TestConfigFromTheEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"ROLLCALL_SVC_E_MAIL_TIMEOUT": "3s", "ROLLCALL_SVC_E_MAIL_CONCURRENCY": "auto", "ROLLCALL_SVC_E_MAIL_RATE": "2.5",
		"ROLLCALL_SVC_E_MAIL_REQUIRED": "false", "ROLLCALL_SVC_E_MAIL_TOKEN": "tok", "ROLLCALL_SVC_E_MAIL_MAX_REPLY": "64KiB",
		// What other programs set must not leak in.
		"TRIES": "9", "KEY": "/other/key.pem", "SECRET": "other", "ROLLCALL_SVC_OTHER_TRIES": "8",
	} {
		t.Setenv(name, value)
	}
	var got service.Config
	if err := envconfig.Process("", got.Spec("e-mail")); err != nil {
		t.Fatal(err)
	}
	want := service.Config{Timeout: 3 * time.Second, Tries: 3, Concurrency: service.Auto, Rate: 2.5, Token: jobs.NewSecret("tok"), MaxReply: 64 * jobs.KiB,
		Method: "POST"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if err := got.Validate("e-mail", "http://mail:8080"); err != nil {
		t.Error(err)
	}
}

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	var got service.Config
	if err := envconfig.Process("", got.Spec("never-set-anywhere")); err != nil {
		t.Fatal(err)
	}
	want := service.Config{Timeout: 10 * time.Second, Tries: 3, Concurrency: 32, Required: true, MaxReply: jobs.MiB, Method: "POST"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEverySettingIsDescribed(t *testing.T) {
	t.Parallel()
	spec := reflect.TypeOf(new(service.Config).Spec("billing")).Elem()
	for i := range spec.NumField() {
		tag := spec.Field(i).Tag
		if !strings.HasPrefix(tag.Get("envconfig"), "ROLLCALL_SVC_BILLING_") || tag.Get("desc") == "" {
			t.Errorf("%s: tag %s", spec.Field(i).Name, tag)
		}
	}
}

func TestValidateReportsAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	c := service.Config{Timeout: -1, Tries: 99, Concurrency: 0, Rate: -1, Secret: jobs.NewSecret("whsec_short"), Token: jobs.NewSecret("a\nb"),
		CA: "/none/ca.pem", Cert: "/none/cert.pem", MaxReply: 1, Method: "POST"}
	err := c.Validate("e-mail", "https://mail")
	if err == nil {
		t.Fatal("accepted")
	}
	for _, word := range []string{"TIMEOUT", "TRIES", "CONCURRENCY", "RATE", "SECRET", "TOKEN", "CA", "CERT", "MAX_REPLY"} {
		if !strings.Contains(err.Error(), "ROLLCALL_SVC_E_MAIL_"+word+":") {
			t.Errorf("%s is not reported:\n%v", word, err)
		}
	}
	if strings.Contains(err.Error(), "whsec_short") {
		t.Error("the error shows the secret")
	}
}

func TestValidateTheRest(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		url  string
		edit func(*service.Config)
		says string
	}{
		{"https://mail", func(c *service.Config) { c.CA = empty }, "no certificate"},
		{"https://mail", func(c *service.Config) { c.Cert, c.Key = empty, empty }, "load the client certificate"},
		{"http://mail", func(c *service.Config) { c.CA = empty }, "only for an https://"},
		{"nats://svc.mail", func(c *service.Config) { c.Token = jobs.NewSecret("tok") }, "only for HTTP"},
		{"http://mail", func(c *service.Config) { c.Secret = jobs.NewSecret(secretA + " " + secretB + " " + secretA) }, "more than two"},
		{"ftp://mail", func(*service.Config) {}, "ROLLCALL_SERVICES"},
	} {
		c := config()
		test.edit(&c)
		if err := c.Validate("mail", test.url); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want it to say %q", test.url, err, test.says)
		}
		if _, err := service.New("mail", test.url, c, service.Deps{}); err == nil {
			t.Errorf("%s: New accepts what Validate refuses", test.url)
		}
	}
	if _, err := service.New("mail", "nats://svc.mail", config(), service.Deps{}); err == nil {
		t.Error("a NATS service without a connection was accepted")
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	c := config()
	c.Secret, c.Token = jobs.NewSecret(secretA), jobs.NewSecret("tok-123")
	if text := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(text, secretA) || strings.Contains(text, "tok-123") {
		t.Error(text)
	}
	s := newService(t, serve(t, fine)+"/?key=tok-123", c, service.Deps{})
	if text := fmt.Sprintf("%+v", s.State()); strings.Contains(text, "tok-123") {
		t.Error(text)
	}
}

func TestConcurrencyText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]service.Concurrency{"auto": service.Auto, "AUTO": service.Auto, "1": 1, " 32 ": 32} {
		var got service.Concurrency
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "many", "1.5"} {
		if err := new(service.Concurrency).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

func TestParseServices(t *testing.T) {
	t.Parallel()
	got, err := service.ParseServices(" billing=http://billing:8080/jobs?a=b , index=nats://svc.index,, e-mail=https://[::1]:8443,")
	if err != nil {
		t.Fatal(err)
	}
	want := []service.Ref{{"billing", "http://billing:8080/jobs?a=b"}, {"index", "nats://svc.index"}, {"e-mail", "https://[::1]:8443"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, list := range []string{"", " , "} {
		if _, err := service.ParseServices(list); !errors.Is(err, service.ErrNoServices) {
			t.Errorf("%q: got %v", list, err)
		}
	}
}

func TestParseServicesReportsAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	refs, err := service.ParseServices("http://billing,Upper=http://a,a=http://a,a=http://b,e-mail=http://a,e_mail=http://a,b=nats://svc.*," +
		"c=http://user:hunter2@c,d=http://169.254.169.254/,e=ftp://e,f=http://,g=nats://,h=http://h/#top,i=http://%zz,j=nats://a..b,k=")
	if len(refs) != 12 {
		t.Errorf("read %d entries, want a, e-mail and b to k: %v", len(refs), refs)
	}
	for _, ref := range refs {
		c := config()
		err = errors.Join(err, c.Validate(ref.Name, ref.URL))
	}
	if err == nil {
		t.Fatal("accepted")
	}
	for _, says := range []string{
		`"http://billing"`, `"Upper"`, "a stands twice", "e-mail and e_mail would share", "service b:", "service c:", "service d:", "service e:",
		"service f:", "service g:", "service h:", "service i:", "service j:", "service k:",
	} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("does not say %s:\n%v", says, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("shows a password:\n%v", err)
	}
}

func FuzzParseServices(f *testing.F) {
	f.Add("billing=http://billing:8080/jobs,index=nats://svc.index")
	f.Add("a=http://[::1]:80,b=https://x/?y=z#,=,a==")
	name := regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	f.Fuzz(func(t *testing.T, list string) {
		refs, err := service.ParseServices(list)
		if err == nil && len(refs) == 0 {
			t.Fatal("neither services nor a fault")
		}
		variables := map[string]bool{}
		for _, r := range refs {
			v := service.Variable(r.Name, "URL")
			if !name.MatchString(r.Name) || variables[v] {
				t.Fatalf("name %q accepted", r.Name)
			}
			variables[v] = true
			c := config()
			if err := c.Validate(r.Name, r.URL); err != nil && !strings.HasPrefix(err.Error(), "ROLLCALL_SERVICES: service "+r.Name+": ") {
				t.Fatalf("%q: %v", r.URL, err)
			}
		}
	})
}
