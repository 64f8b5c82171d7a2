package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func signed(h http.Header, body []byte) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("SECRET"), "whsec_"))
	if err != nil {
		return false
	}
	id, stamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	sent, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Since(time.Unix(sent, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, got := range strings.Fields(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return true
		}
	}
	return false
}

type event struct {
	UID  string `json:"rollcalluid"`
	Data json.RawMessage
}

type result struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

func bill(e event) result {
	var order struct{ Amount *int }
	if err := json.Unmarshal(e.Data, &order); err != nil || order.Amount == nil {
		return result{ID: e.UID, Status: "fail", Error: "no amount"}
	}
	if *order.Amount < 0 {
		return result{ID: e.UID, Status: "fail", Error: "negative amount"}
	}
	return result{ID: e.UID, Status: "ok"}
}

func handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
	if err != nil || !signed(r.Header, body) {
		http.Error(w, "bad signature", http.StatusUnauthorized)
		return
	}
	var events []event
	if err := json.Unmarshal(body, &events); err != nil {
		http.Error(w, "not a batch", http.StatusBadRequest)
		return
	}
	var reply struct {
		Results []result `json:"results"`
	}
	for _, e := range events {
		reply.Results = append(reply.Results, bill(e))
	}
	_ = json.NewEncoder(w).Encode(reply)
}

func main() {
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(handle)))
}
