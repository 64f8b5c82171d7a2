package service_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"rollcall/internal/jobs"
	"rollcall/internal/service"
)

func Example() {
	billing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"results":[{"id":"order-1","status":"ok"},{"id":"order-2","status":"fail","error":"card expired"}]}`)
	}))
	defer billing.Close()

	cfg := service.Config{
		Timeout: 10 * time.Second, Tries: 3, Concurrency: 32, Required: true, MaxReply: jobs.MiB,
		Method: http.MethodPost,
	}
	svc, err := service.New("billing", billing.URL, cfg, service.Deps{Version: "1.0.0", RetryMax: 5 * time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer svc.Close()

	first := jobs.Decode(jobs.Delivery{Subject: "jobs.order", Header: map[string][]string{"Nats-Msg-Id": {"order-1"}}}, 0)
	second := jobs.Decode(jobs.Delivery{Subject: "jobs.order", Header: map[string][]string{"Nats-Msg-Id": {"order-2"}}}, 0)
	list := []*jobs.Job{&first, &second}
	result := svc.Call(context.Background(), &jobs.Call{
		BatchID: "batch-1", Pool: "default", Service: "billing", Key: "batch-1:billing",
		Jobs: list, Body: jobs.AppendCall(nil, list),
	})
	for i, reply := range result.Replies {
		fmt.Printf("%s: %v %q\n", list[i].ID, reply.Status, reply.Error)
	}
	// Output:
	// order-1: ok ""
	// order-2: fail "card expired"
}
