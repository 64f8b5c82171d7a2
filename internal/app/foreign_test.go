package app_test

import (
	"io"
	"net/http"
	"regexp"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/devkit"
	"rollcall/internal/devkit/devkittest"
	"rollcall/internal/faulttest"
	"rollcall/internal/web"
)

// metric reads one of the replica's own numbers.
func (m member) metric(name string) string {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, "http://"+m.addr+"/metrics", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + `(?:\{[^}]*\})? (\S+)$`).FindSubmatch(text)
	if found == nil {
		m.t.Fatalf("there is no metric %s", name)
	}
	return string(found[1])
}

// TestPageAndMetricsOfAStreamThatKeepsWhatIsDone: what was delivered and done stays in it, and must
// be neither waiting, stuck nor old to the page, the alerts and KEDA, which all read these numbers.
func TestPageAndMetricsOfAStreamThatKeepsWhatIsDone(t *testing.T) {
	t.Parallel()
	for name, retention := range map[string]jetstream.RetentionPolicy{"limits": jetstream.LimitsPolicy, "interest": jetstream.InterestPolicy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := devkittest.Start(t, devkit.Options{Dir: t.TempDir()})
			js := faulttest.JetStream(t, faulttest.Connect(t, broker.URL()))
			orders := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, Retention: retention}
			if _, err := js.CreateStream(t.Context(), orders); err != nil {
				t.Fatal(err)
			}
			// Somebody else's consumer keeps the messages in a stream with interest retention.
			if _, err := js.CreateConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{Durable: "others", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
				t.Fatal(err)
			}
			billing := faulttest.StartRecorder(t, "billing")
			m := join(t, broker.URL(), "one", billing, "ROLLCALL_STREAM=ORDERS", "ROLLCALL_SUBJECTS=orders.>", "ROLLCALL_START=all", "ROLLCALL_BATCH_LINGER=1ms")
			m.until("ready", func(s web.Status) bool { return s.Replica.Ready })
			for range 5 {
				if _, err := js.Publish(t.Context(), "orders.paid", []byte("1")); err != nil {
					t.Fatal(err)
				}
			}
			s := m.until("all is done and nothing is old", func(s web.Status) bool {
				return s.Pool != nil && s.Pool.Streams[0].Messages == 5 && s.Pool.InFlight == 0 && s.Pool.Waiting == 0
			})
			if s.Pool.Stuck != 0 || !s.Pool.Oldest.IsZero() {
				t.Errorf("the page speaks of work that is done: %+v", s.Pool)
			}
			for _, name := range []string{
				"rollcall_stream_stuck_messages", "rollcall_consumer_oldest_age_seconds", "rollcall_consumer_pending", "rollcall_consumer_ack_pending",
			} {
				if got := m.metric(name); got != "0" {
					t.Errorf("%s is %s, want 0", name, got)
				}
			}
		})
	}
}
