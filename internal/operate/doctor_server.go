package operate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"rollcall/internal/bus"
)

const (
	monitorPort    = "8222"
	monitorTimeout = 3 * time.Second
	maxVarz        = 1 << 20
	// storeWarning is the share of the file store that is worth a word, in percent.
	storeWarning = 80
)

// varz is what the doctor reads of /varz (nats-server monitor.go, Varz).
type varz struct {
	ID        string `json:"server_id"`
	JetStream struct {
		Config struct {
			StoreDir     string        `json:"store_dir"`
			SyncAlways   bool          `json:"sync_always"`
			SyncInterval time.Duration `json:"sync_interval"`
			MaxStorage   int64         `json:"max_storage"`
		} `json:"config"`
		Stats struct {
			Storage int64 `json:"storage"`
		} `json:"stats"`
	} `json:"jetstream"`
}

// server checks what only the monitoring port reports.
func (d *doctor) server(ctx context.Context, conn *bus.Conn) {
	monitor := d.Monitor
	if monitor == "" {
		host, _, err := net.SplitHostPort(conn.NATS().ConnectedAddr())
		if err != nil {
			host = "127.0.0.1"
		}
		monitor = "http://" + net.JoinHostPort(host, monitorPort)
	}
	v, err := readVarz(ctx, monitor)
	if err == nil && v.ID != conn.NATS().ConnectedServerId() {
		err = fmt.Errorf("%s belongs to another server", monitor)
	}
	if err != nil {
		d.find("sync", Unsure, "Name the monitoring port: worker doctor --monitor http://host:8222. Only that port reports whether writes are on disk before they are acknowledged.", "%v", err)
		return
	}
	if v.JetStream.Config.StoreDir == "" {
		return // no JetStream: reported already
	}
	d.sync(&v)
	d.store(&v)
}

func (d *doctor) sync(v *varz) {
	const remedy = "Set sync_interval: always in the jetstream block of the server (deploy/nats/nats-server.conf)."
	switch config := &v.JetStream.Config; {
	case config.SyncAlways:
		d.find("sync", Well, "", "writes are on disk before they are acknowledged")
	case d.Streams.Replicas == 1:
		d.find("sync", Risky, remedy, "writes reach the disk every %v: a power loss forgets acknowledged jobs", config.SyncInterval)
	default:
		d.find("sync", Risky, remedy, "writes reach the disk every %v: servers that lose power together forget acknowledged jobs", config.SyncInterval)
	}
}

func (d *doctor) store(v *varz) {
	limit, used := v.JetStream.Config.MaxStorage, v.JetStream.Stats.Storage
	if limit <= 0 {
		d.find("store", Risky, "Set max_file_store below the size of the volume: a disk that is really full needs a restart and forgets acks.", "no limit, %d bytes used", used)
		return
	}
	health, remedy := Well, ""
	percent := used * 100 / limit
	if percent >= storeWarning {
		health, remedy = Risky, "Make room, or raise max_file_store on a larger volume: at the limit jobs and commits are refused."
	}
	d.find("store", health, remedy, "%d %% of %d bytes used", percent, limit)
}

func readVarz(ctx context.Context, monitor string) (varz, error) {
	ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(monitor, "/")+"/varz", nil)
	if err != nil {
		return varz{}, fmt.Errorf("read the monitoring port: %w", err)
	}
	// A transport of its own: the default one would ask a proxy.
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return varz{}, fmt.Errorf("read the monitoring port: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return varz{}, fmt.Errorf("read the monitoring port %s: %s", monitor, response.Status)
	}
	var v varz
	if err := json.NewDecoder(io.LimitReader(response.Body, maxVarz)).Decode(&v); err != nil {
		return varz{}, fmt.Errorf("read the monitoring port %s: %w", monitor, err)
	}
	return v, nil
}
