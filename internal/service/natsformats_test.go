package service_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

// onNATS starts a subscriber to every subject below svc and returns a service with this URL.
func onNATS(t *testing.T, url string, cfg service.Config, answer func(*nats.Msg)) *service.Service {
	t.Helper()
	worker, svc := connect(t, 0)
	if _, err := svc.Subscribe("svc.>", answer); err != nil {
		t.Fatal(err)
	}
	if err := svc.Flush(); err != nil {
		t.Fatal(err)
	}
	return newService(t, url, cfg, service.Deps{Conn: worker, Version: "1.2.3"})
}

func TestFormatsOverNATS(t *testing.T) {
	t.Parallel()
	for _, format := range []service.Format{service.FormatEvent, service.FormatPlain} {
		t.Run(format.String(), func(t *testing.T) {
			t.Parallel()
			got := make(chan *nats.Msg, 1)
			cfg := formatted(format, func(c *service.Config) { c.Headers = jobs.NewSecret("X-For:{header:x-tenant}") })
			s := onNATS(t, "nats://svc.{subject:2}.{data:/id}", cfg, func(m *nats.Msg) {
				got <- m
				_ = m.Respond(nil)
			})
			r := s.Call(t.Context(), callOf(jobs.Delivery{Data: []byte(`{"id":17}`), Header: map[string][]string{"ce-id": {"é"}, "ce-tenant": {"a b"}, "X-Tenant": {"acme"}}}))
			if r.Failure != nil || r.Replies[0].Status != ok || r.Tries != 1 {
				t.Fatalf("%+v", r)
			}
			m := <-got
			want := map[string]string{
				"Idempotency-Key": `"e.1:billing"`, "Rollcall-Uid": "e.1", "Rollcall-Attempt": "1", "Content-Type": "application/json", "X-For": "acme", "Rollcall-Pool": "default",
				"ce-id": "", "ce-tenant": "", "ce-specversion": "", "ce-datacontenttype": "", "ce-rollcallattempt": "",
			}
			if format == service.FormatEvent {
				want["ce-id"], want["ce-tenant"], want["ce-specversion"], want["ce-datacontenttype"], want["ce-rollcallattempt"] = "%C3%A9", "a%20b", "1.0", "application/json", "1"
			}
			for name, value := range want {
				if got := m.Header.Get(name); got != value {
					t.Errorf("%s: %q, want %q", name, got, value)
				}
			}
			if m.Subject != "svc.order.17" || string(m.Data) != `{"id":17}` {
				t.Errorf("%s with %s", m.Subject, m.Data)
			}
			if format == service.FormatEvent {
				again := jobs.Decode(jobs.Delivery{Header: m.Header, Data: m.Data}, 0)
				if again.ID != "é" || len(again.Attributes) == 0 {
					t.Errorf("read back as %+v", again)
				}
			}
		})
	}
}

// TestNothingAJobContainsLeavesItsToken puts every value of the corpus into a subject.
func TestNothingAJobContainsLeavesItsToken(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var subjects []string
	s := onNATS(t, "nats://svc.{data:/v}.end", formatted(service.FormatPlain), func(m *nats.Msg) {
		mu.Lock()
		subjects = append(subjects, m.Subject)
		mu.Unlock()
		_ = m.Respond(nil)
	})
	for _, value := range corpus {
		body, err := jsonOf(map[string]string{"v": value})
		if err != nil {
			t.Fatal(err)
		}
		r := s.Call(t.Context(), callOf(jobs.Delivery{Data: body}))
		if r.Failure != nil {
			t.Fatalf("%q: %v", value, r.Failure)
		}
		if status := r.Replies[0].Status; status == retry || status == ok && strings.ContainsAny(value, ". *>\r\n\x00") {
			t.Errorf("%q: %+v", value, r.Replies[0])
		}
	}
	for _, subject := range subjects {
		if strings.Count(subject, ".") != 2 || !strings.HasSuffix(subject, ".end") {
			t.Errorf("a request went to %q", subject)
		}
	}
	if len(subjects) == 0 {
		t.Error("no value fits")
	}
}

func TestAHoleDoesNotReachTheSystem(t *testing.T) {
	t.Parallel()
	worker, _ := connect(t, 0)
	s := newService(t, "nats://{data:/v}.x", formatted(service.FormatPlain), service.Deps{Conn: worker})
	for _, value := range []string{"$JS", "$SYS", "_INBOX"} {
		if r := s.Call(t.Context(), callOf(jobs.Delivery{Data: []byte(`{"v":"` + value + `"}`)})); r.Failure != nil || r.Replies[0].Status != fail || r.Tries != 0 {
			t.Errorf("%s: %+v", value, r)
		}
	}
}

func TestErrorCodesOverNATSAreReadLikeStatuses(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]struct {
		status jobs.Status
		free   bool
	}{
		"422": {fail, false}, "404": {fail, false}, "503": {retry, false}, "429": {retry, true}, "401": {retry, true}, "409": {ok, false}, "x": {retry, false},
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			cfg := formatted(service.FormatPlain, func(c *service.Config) { c.Tries = 1; _ = c.OK.UnmarshalText([]byte("409")) })
			s := onNATS(t, "nats://svc.x", cfg, func(m *nats.Msg) {
				_ = m.RespondMsg(&nats.Msg{Header: nats.Header{micro.ErrorCodeHeader: {code}, micro.ErrorHeader: {"said so"}}})
			})
			r := s.Call(t.Context(), callOf(jobs.Delivery{}))
			if r.Failure != nil || r.Replies[0].Status != want.status || r.Replies[0].Free != want.free || want.status != ok && !strings.Contains(r.Replies[0].Error, "said so") {
				t.Errorf("%+v, want %+v", r, want)
			}
		})
	}
}

func TestAJobThatNoMessageCanCarryFailsAlone(t *testing.T) {
	t.Parallel()
	worker, svc := connect(t, 4096)
	listen(t, svc, func(m *nats.Msg) { _ = m.Respond(nil) })
	s := newService(t, "nats://svc.index", formatted(service.FormatPlain), service.Deps{Conn: worker})
	r := s.Call(t.Context(), callOf(jobs.Delivery{Data: []byte("1")}, jobs.Delivery{Data: []byte(strings.Repeat("x", 4096))}))
	if r.Failure != nil || r.Replies[0].Status != ok || r.Replies[1].Status != fail || !strings.Contains(r.Replies[1].Error, "max_payload") || r.Tries != 1 {
		t.Errorf("%+v", r)
	}
}
