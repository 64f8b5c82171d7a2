package operate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

const (
	// forecastSpan is how far back the doctor looks to measure the rate of events.
	forecastSpan = time.Hour
	// shortestSpan is what a rate is worth telling from.
	shortestSpan = time.Minute
	// eventMemory is what an event costs the broker in memory, in bytes: the index of its subject.
	eventMemory = 280
	// brim is the least room, in bytes, below which a stream counts as full, besides 2 % of it.
	brim = 4 << 10
)

// room looks at what the streams hold: whether one is full, whether the backlog outlives its
// stream, and how long the room for events lasts.
func (d *doctor) room(ctx context.Context, conn *bus.Conn, admin *Admin) {
	state, err := admin.State(ctx)
	if err != nil {
		return // reported already
	}
	streams := []string{d.Streams.Stream, conn.Done(), bus.StreamDead, bus.StreamLater}
	for _, name := range slices.Compact(streams) { // a pool may take events for its jobs
		stream, err := conn.Stream(ctx, name)
		if err != nil {
			continue // reported already, or not wanted
		}
		info := stream.CachedInfo()
		d.full(info, name == conn.Done())
		d.schedules(ctx, conn, info)
		if name == d.Streams.Stream {
			d.outlived(&state, info.Config.MaxAge)
		}
		if name == conn.Done() {
			d.forecast(ctx, conn, info, &state)
		}
	}
}

// full finds a stream that can take no more right now. ours says that batches are committed to it.
func (d *doctor) full(info *jetstream.StreamInfo, ours bool) {
	cfg := &info.Config
	if cfg.MaxBytes <= 0 || int64(info.State.Bytes)+max(brim, cfg.MaxBytes/50) < cfg.MaxBytes {
		return
	}
	health, effect := Broken, "the oldest messages are deleted, done or not"
	switch {
	case cfg.Name == bus.StreamDead && cfg.Discard == jetstream.DiscardOld:
		health, effect = Risky, "the oldest dead letters are deleted, whatever ROLLCALL_DEAD_AGE says"
	case cfg.Name == bus.StreamDead:
		effect = "jobs that fail wait instead of ending with a dead letter"
	case cfg.Name == bus.StreamLater:
		effect = "the oldest delayed jobs are deleted"
	case ours:
		effect = "commits wait, so no batch ends; nothing is lost"
	case cfg.Discard == jetstream.DiscardNew:
		health, effect = Risky, "producers are told so (10077), and accepted jobs are done"
	}
	d.find("stream "+cfg.Name+" full", health, fmt.Sprintf("Give it more room, if the store has it: nats stream edit %s --max-bytes=%s", cfg.Name, jobs.Size(2*cfg.MaxBytes)),
		"%d of %d bytes are used: %s", info.State.Bytes, cfg.MaxBytes, effect)
}

// schedules finds a queue whose scheduled messages the server may lose: with several replicas
// it removes them while another stream takes in what they published
// (https://github.com/nats-io/nats-server/issues/8423).
func (d *doctor) schedules(ctx context.Context, conn *bus.Conn, info *jetstream.StreamInfo) {
	cfg := &info.Config
	if !cfg.AllowMsgSchedules || cfg.Retention == jetstream.LimitsPolicy {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, optionalTimeout)
	defer cancel()
	for other := range conn.JetStream().ListStreams(ctx).Info() {
		if !slices.ContainsFunc(other.Config.Sources, func(s *jetstream.StreamSource) bool { return s.Name == cfg.Name }) {
			continue
		}
		health := Risky
		if cfg.Replicas > 1 {
			health = Broken
		}
		d.find("schedules of "+cfg.Name, health, "Keep schedules in a stream of their own with limits retention, as LATER is, and source that.",
			"stream %s sources this %s stream: with several replicas the server drops scheduled messages that are not due", other.Config.Name, cfg.Retention)
	}
}

// outlived finds a backlog that its stream may delete before it is done.
func (d *doctor) outlived(state *jobs.PoolState, maxAge time.Duration) {
	if age := state.OldestAge(); maxAge > 0 && age > maxAge/2 {
		d.find("backlog age", Risky, "Add replicas, or keep messages for longer: nats stream edit "+d.Streams.Stream+" --max-age="+(2*maxAge).String(),
			"the oldest job that is not done is %v old, and the stream deletes messages of %v, done or not", age.Round(time.Second), maxAge)
	}
}

// forecast reports how long the room for events lasts if they go on as in the last hour.
func (d *doctor) forecast(ctx context.Context, conn *bus.Conn, done *jetstream.StreamInfo, state *jobs.PoolState) {
	span := min(forecastSpan, done.TimeStamp.Sub(done.Created))
	if span < shortestSpan || !done.Config.AllowDirect {
		return // too short to measure, or not to be read
	}
	s, err := conn.Sample(ctx, conn.Done(), bus.EventsFilter("*"), done.TimeStamp.Add(-span))
	if err != nil {
		d.find("room for events", Unsure, lookAgain, "%v", err)
		return
	}
	if s.Messages > 0 {
		d.findings = append(d.findings, forecast(s, span, d.Streams.DoneAge, done, state))
	}
}

// forecast judges the room for events, of which s came in during span and each is kept for age.
func forecast(s bus.Sample, span, age time.Duration, done *jetstream.StreamInfo, state *jobs.PoolState) Finding {
	perHour := float64(s.Messages) / span.Hours()
	kept := perHour * age.Hours()
	f := Finding{Check: "room for events", Health: Well}
	f.Detail = fmt.Sprintf("%.0f events an hour of %.0f bytes, kept for %v (ROLLCALL_DONE_AGE), come to %s of storage and %s of the broker's memory; ",
		perHour, s.Size, age, roughly(kept*s.Size), roughly(kept*eventMemory))
	left, limit := roomFor(done, state)
	switch more := kept*s.Size - float64(done.State.Bytes); {
	case limit == "":
		f.Detail += "nothing limits them"
	case more <= left:
		f.Detail += limit + " has room for them"
	default:
		f.Health, f.Remedy = Risky, "Make room, shorten ROLLCALL_DONE_AGE, or make batches bigger (ROLLCALL_BATCH_SIZE, ROLLCALL_BATCH_LINGER)."
		f.Detail += fmt.Sprintf("%s is full in about %v", limit, time.Duration(left/(perHour*s.Size)*float64(time.Hour)).Round(time.Minute))
	}
	return f
}

// roomFor is how many bytes DONE may still take, and what limits it.
func roomFor(done *jetstream.StreamInfo, state *jobs.PoolState) (left float64, limit string) {
	if cfg := &done.Config; cfg.MaxBytes > 0 {
		left, limit = float64(cfg.MaxBytes)-float64(done.State.Bytes), "stream "+cfg.Name
	}
	if state.StoreLimit > 0 {
		account := float64(state.StoreLimit) - float64(state.StoreUsed)
		if limit == "" || account < left {
			left, limit = account, "the account's storage"
		}
	}
	return max(left, 0), limit
}

// roughly writes a number of bytes for people.
func roughly(bytes float64) string {
	for _, u := range [...]struct {
		unit float64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if bytes >= u.unit {
			return fmt.Sprintf("%.1f %s", bytes/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%.0f bytes", bytes)
}
