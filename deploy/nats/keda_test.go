package nats_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/faulttest"
)

// TestKEDAFindsTheConsumer asks the monitoring port what KEDA's trigger nats-jetstream asks it, with
// the account that the chart's comments name for this configuration.
func TestKEDAFindsTheConsumer(t *testing.T) {
	t.Parallel()
	values, err := os.ReadFile("../helm/rollcall/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(values), "account ROLLCALL") {
		t.Error("the chart does not say which account KEDA has to name")
	}
	opts, err := server.ProcessConfigFile("nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.HTTPPort, opts.StoreDir = "127.0.0.1", -1, -1, t.TempDir()
	s := faulttest.StartServer(t, *opts)
	provision(t, s)
	publishJob(t, s)
	faulttest.Until(t, time.Minute, "the lag of JOBS/default is there", func() bool { return lag(t, s) == 1 })
}

// lag is how many jobs wait for the consumer, as KEDA's scaler reads it.
func lag(t *testing.T, s *server.Server) uint64 {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.MonitorAddr().String()+"/jsz?acc=ROLLCALL&consumers=true&config=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Accounts []struct {
			Streams []struct {
				Name      string                   `json:"name"`
				Consumers []jetstream.ConsumerInfo `json:"consumer_detail"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	for _, account := range answer.Accounts {
		for _, stream := range account.Streams {
			for _, consumer := range stream.Consumers {
				if stream.Name == "JOBS" && consumer.Name == "default" {
					return consumer.NumPending
				}
			}
		}
	}
	return 0
}
