package web

import (
	"fmt"
	"time"

	"rollcall/internal/jobs"
)

// view is a status and everything that the page derives from it.
type view struct {
	Status
	// Title of the page shows the state, also in another tab.
	Title  string
	State  pill
	Alerts []alert
	// Facts are the checks of this replica.
	Facts []fact
	Chart chart
	// Pool is nil where nothing is known of it.
	PoolFresh bool
	Replicas  []peer
	// Sum of all replicas.
	PoolRate, PoolSuccess float64
	Rows                  []batchRow
	Success               string
	PoolSuccessTone       string
	Version               string
	// Core is true for a pool without a stream (core mode).
	Core bool
}

// pill is a word with a colour.
type pill struct{ Tone, Word string }

// fact is a check of this replica, as a row.
type fact struct {
	Name string
	pill
}

// peer is a replica of the pool, as a row.
type peer struct {
	jobs.ReplicaState
	State pill
	// Own is this replica, whose page this is.
	Own     bool
	Version string
	// Troubles counts the services whose breaker is not closed.
	Troubles int
	Services []serviceRow
}

// serviceRow is a service as one replica sees it.
type serviceRow struct {
	jobs.ServiceState
	Pill pill
}

// batchRow is a batch that ended, as a row.
type batchRow struct {
	jobs.BatchSummary
	Pill pill
	// Failed are all jobs that ended without success.
	Failed int
}

func newView(s Status) view {
	v := view{
		Status: s, Alerts: s.alerts(), Chart: newChart(s.Seconds, s.At), State: statePill(&s.Replica),
		PoolFresh: s.PoolError == "", Success: successTone(s.Replica.Success),
		Version: version(s.Replica), Core: s.Pool == nil && s.PoolError == "" && s.Replica.Phase != "starting",
	}
	v.Facts = facts(s.Checks)
	v.Title = v.title()
	v.addPeers()
	v.PoolSuccessTone = successTone(v.PoolSuccess)
	for _, b := range s.Batches {
		row := batchRow{BatchSummary: b, Pill: batchPill(b)}
		if b.Result == jobs.BatchCommitted {
			row.Failed = b.Counts.Total - b.Counts.Succeeded - b.Counts.Retrying
		}
		v.Rows = append(v.Rows, row)
	}
	return v
}

// Services are those of this replica.
func (v *view) Services() []serviceRow { return serviceRows(v.Replica.Services) }

func (v *view) title() string {
	for _, a := range v.Alerts {
		if a.Tone == toneBad {
			return a.Title
		}
	}
	switch {
	case !v.Replica.Ready:
		return v.State.Word
	case v.Pool == nil:
		return v.State.Word
	default:
		return fmt.Sprintf("%s waiting", number(v.Pool.Waiting))
	}
}

// addPeers lists the replicas, this one as it is at this moment and first.
func (v *view) addPeers() {
	all := []jobs.ReplicaState{v.Replica}
	for _, r := range v.Peers.Replicas {
		if r.Replica != v.Replica.Replica {
			all = append(all, r)
		}
	}
	succeeded, ended := 0.0, 0.0
	for i, r := range all {
		p := peer{ReplicaState: r, Own: i == 0, State: statePill(&r), Version: version(r), Services: serviceRows(r.Services)}
		if !p.Own && v.Stale() {
			p.State.Tone = toneNone // it was so
		}
		for _, s := range p.Services {
			if s.Breaker != jobs.BreakerClosed {
				p.Troubles++
			}
		}
		v.Replicas = append(v.Replicas, p)
		if r.Success >= 0 {
			ended += r.Rate
			succeeded += r.Rate * r.Success
		}
	}
	v.PoolRate, v.PoolSuccess = ended, -1
	if ended > 0 {
		v.PoolSuccess = succeeded / ended
	}
}

// Stale reports whether the other replicas are shown as they were.
func (v *view) Stale() bool { return v.Peers.Error != "" }

func serviceRows(services []jobs.ServiceState) []serviceRow {
	rows := make([]serviceRow, len(services))
	for i, s := range services {
		rows[i] = serviceRow{s, breakerPill(s.Breaker)}
	}
	return rows
}

func statePill(r *jobs.ReplicaState) pill {
	switch {
	case r.Ready:
		return pill{toneGood, "ready"}
	case r.Phase == "working":
		return pill{toneBad, "not ready"}
	case r.Phase == "ended":
		return pill{toneBad, "ended"}
	default:
		return pill{toneFair, r.Phase}
	}
}

// facts words the checks. Checks that depend on the broker are unknown while it is away.
func facts(checks []Check) []fact {
	away := false
	for _, c := range checks {
		away = away || c.Name == CheckBroker && !c.OK
	}
	rows := make([]fact, len(checks))
	for i, c := range checks {
		rows[i] = fact{title(c.Name), pill{toneGood, "ok"}}
		switch {
		case c.Name == CheckConsumer && away:
			rows[i].pill = pill{toneNone, "unknown"}
		case !c.OK:
			rows[i].pill = pill{toneBad, "not ok"}
		}
	}
	return rows
}

func batchPill(b jobs.BatchSummary) pill {
	switch {
	case b.Result == jobs.BatchWaiting:
		return pill{toneFair, "waiting"}
	case b.Result == jobs.BatchSuperseded:
		return pill{toneNone, "done elsewhere"}
	case b.Result != jobs.BatchCommitted:
		return pill{toneBad, "not committed"}
	case b.Outcome == jobs.BatchFailed:
		return pill{toneBad, string(b.Outcome)}
	case b.Outcome == jobs.BatchPartial && b.Counts.Retrying == b.Counts.Total:
		return pill{toneFair, "all retrying"}
	case b.Outcome == jobs.BatchPartial:
		return pill{toneFair, string(b.Outcome)}
	default:
		return pill{toneGood, string(b.Outcome)}
	}
}

func breakerPill(state jobs.Breaker) pill {
	switch state {
	case jobs.BreakerClosed:
		return pill{toneGood, string(state)}
	case jobs.BreakerOpen:
		return pill{toneBad, string(state)}
	default:
		return pill{toneFair, string(state)}
	}
}

// successTone is the colour of a share of jobs that succeeded; none where nothing is wrong.
func successTone(part float64) string {
	switch {
	case part < 0 || part >= 0.99:
		return ""
	case part < 0.5:
		return toneBad
	default:
		return toneFair
	}
}

// version names the program of a replica. A build without a release has no version worth
// reading.
func version(r jobs.ReplicaState) string {
	name, revision := r.Version, jobs.Clip(r.Revision, 12)
	if name == "" || name == "(devel)" {
		name = "development build"
	}
	if revision == "" || revision == "unknown" {
		return name
	}
	return name + " (" + revision + ")"
}

// Since says how long ago then was at the time of the page.
func (v *view) Since(then time.Time) string { return ago(v.At, then) }
