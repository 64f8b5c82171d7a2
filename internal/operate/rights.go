package operate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// Right is something a worker must be allowed to do.
type Right struct {
	// Subject as a permission would name it.
	Subject string `json:"subject"`
	// Subscribe is set for a right to subscribe, not for one to publish.
	Subscribe bool `json:"subscribe,omitempty"`
	// Purpose says what does not work without it.
	Purpose string `json:"purpose"`
	// Optional is set if jobs are done without it.
	Optional bool `json:"optional,omitempty"`
	// Unknown is set if the server neither answered nor refused.
	Unknown bool `json:"unknown,omitempty"`
}

const (
	// rightTimeout bounds one trial; a denied one is noticed long before.
	rightTimeout = 3 * time.Second
	// deniedPoll is how often a trial looks whether it was denied: that news comes to the
	// connection's error handler and to nobody else.
	deniedPoll = 10 * time.Millisecond
	// nobodysStream is expected of the streams that must store nothing.
	nobodysStream = "ROLLCALL-DOCTOR"
	// noSuchJob is a sequence that no stream reaches.
	noSuchJob = "9223372036854775807"
)

// trial is a message that needs a right, is always answered, and changes nothing.
type trial struct {
	right Right
	msg   *nats.Msg
}

// MissingRights tries everything that a worker of the pool has to do, in ways that change
// nothing, and returns what the server does not let this user do. A worker itself would see
// such a denial as a time-out. conn must be used for nothing else meanwhile.
func (a *Admin) MissingRights(ctx context.Context) ([]Right, error) {
	if err := a.conn.Healthy(); err != nil {
		return nil, fmt.Errorf("try the rights of the user: %w", err)
	}
	if missing, err := a.missingInbox(ctx); err != nil || missing != nil {
		return missing, err
	}
	return a.missing(ctx, a.trials()), nil
}

// missing tries all at once, and returns the rights that are missing or unknown.
func (a *Admin) missing(ctx context.Context, trials []trial) (missing []Right) {
	outcomes := make([]*Right, len(trials))
	var wg sync.WaitGroup
	for i := range trials {
		wg.Go(func() { outcomes[i] = a.try(ctx, &trials[i]) })
	}
	wg.Wait()
	for _, right := range outcomes {
		if right != nil {
			missing = append(missing, *right)
		}
	}
	return missing
}

// MayCreate reports whether this user may create an object, "stream JOBS" or "consumer JOBS/default", as far as the
// server says.
func (a *Admin) MayCreate(ctx context.Context, object string) bool {
	kind, name, _ := strings.Cut(object, " ")
	request := strings.ToUpper(kind) + ".CREATE." + strings.ReplaceAll(name, "/", ".")
	if kind == "consumer" && len(a.streams.Subjects) == 1 { // the only filter stands in the subject of the request
		request += "." + a.streams.Subjects[0]
	}
	// Malformed, so that it makes nothing.
	return len(a.missing(ctx, []trial{newTrial(a.conn.API(request), "", "{", "create "+object)})) == 0
}

// missingInbox finds out whether answers can be received at all; without that every other trial
// would only time out.
func (a *Admin) missingInbox(ctx context.Context) ([]Right, error) {
	inbox := a.conn.NATS().NewInbox()
	sub, err := a.conn.NATS().SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("subscribe to an inbox: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the server has forgotten a denied one already
	// A message to oneself would need another right, so the reply is asked of the server:
	// it sends its denials in order, before the next one of them.
	ctx, cancel := context.WithTimeout(ctx, rightTimeout)
	defer cancel()
	if err := a.conn.NATS().FlushWithContext(ctx); err != nil {
		return nil, fmt.Errorf("subscribe to an inbox: %w", err)
	}
	// nats.go keeps the last error of the server before it calls the error handler, which may be
	// much later on a busy machine.
	if bus.DeniedBy(a.conn.NATS().LastError()) == "subscription "+inbox {
		prefix := inbox[:strings.LastIndex(inbox, ".")]
		return []Right{{Subject: prefix + ".>", Subscribe: true, Purpose: "receive replies of the server"}}, nil
	}
	return nil, nil
}

// try returns the right if it is missing or unknown.
func (a *Admin) try(ctx context.Context, t *trial) *Right {
	ctx, cancel := context.WithTimeout(ctx, rightTimeout)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := a.conn.NATS().RequestMsgWithContext(ctx, t.msg)
		answered <- err
	}()
	ticker := time.NewTicker(deniedPoll)
	defer ticker.Stop()
	for {
		select {
		case err := <-answered:
			// Nobody there to answer: the server has let the message pass all the same.
			if err == nil || errors.Is(err, nats.ErrNoResponders) {
				return nil
			}
			t.right.Unknown = true
			return &t.right
		case <-ticker.C:
			if a.conn.WasDenied("publish " + t.msg.Subject) {
				cancel()
				<-answered
				return &t.right
			}
		}
	}
}

// trials lists what a worker with a job stream does.
func (a *Admin) trials() []trial {
	jobStream, durable := a.streams.Stream, a.pool
	page := a.ledger().Page(jobs.Ref{Epoch: "0"})
	list := []trial{
		newTrial(a.conn.API("CONSUMER.INFO."+jobStream+"."+durable), "", "", "find the consumer of the pool"),
		// Malformed, so that it takes no job.
		newTrial(a.conn.NextSubject(jobStream, durable), "", "{", "take jobs"),
		newTrial("$JS.ACK."+jobStream+"."+durable+".1."+noSuchJob+"."+noSuchJob+".0.0", "$JS.ACK."+jobStream+"."+durable+".>", "+WPI", "settle jobs and renew their leases"),
		newTrial(bus.EventSubject(a.pool, "doctor", "0"), bus.EventsFilter(a.pool), "", "commit completion events"),
		newTrial(bus.SetEventSubject(a.pool, "doctor", "0"), bus.SetEventsOf(a.pool, "*"), "", "commit the events of sets").optional(),
		newTrial(page, a.ledger().All(), "", "commit to the ledger"),
		newTrial(a.conn.API("DIRECT.GET."+a.conn.Done()), "", "{}", "read the ledger"),
		newTrial(a.conn.API("STREAM.PURGE."+a.conn.Done()), "", `{"filter":"`+page+`"}`, "drop old records of the ledger").optional(),
		newTrial(a.conn.API("STREAM.MSG.GET."+jobStream), "", "{}", "tell the age of the oldest job").optional(),
		newTrial(a.conn.API("INFO"), "", "", "tell how full the storage is").optional(),
		newTrial("$SRV.PING."+ServiceName, "", "", "see the other replicas, and notice when they disagree").optional(),
		newTrial(ReplicaSubject(a.pool, "doctor", endpointStatus), ReplicaSubject(a.pool, "*", endpointStatus), "", "show the state of the other replicas").optional(),
		newTrial(bus.DeadSubject(a.pool, "doctor"), bus.DeadSubject(a.pool, ">"), "", "store dead letters"),
	}
	if a.streams.Delays(a.conn) {
		list = append(list,
			newTrial(a.conn.API("STREAM.INFO."+bus.StreamLater), "", "", "look at delayed jobs").optional(),
			newTrial(a.conn.API("STREAM.PURGE."+bus.StreamLater), "", `{"filter":"due.doctor.`+noSuchJob+`"}`, "remove delayed jobs from "+bus.StreamLater+" once they are in the job stream").optional())
	}
	for _, stream := range []string{jobStream, a.conn.Done(), bus.StreamDead} {
		list = append(list, newTrial(a.conn.API("STREAM.INFO."+stream), "", "", "compare stream "+stream+" with what is wanted"))
	}
	return list
}

// newTrial publishes body to subject; pattern is how a permission would name it, subject if
// empty. Where a stream holds the subject, the message expects another stream, so nothing is stored.
func newTrial(subject, pattern, body, purpose string) trial {
	m := nats.NewMsg(subject)
	m.Data = []byte(body)
	if !strings.HasPrefix(subject, "$JS.") {
		m.Header.Set(jetstream.ExpectedStreamHeader, nobodysStream)
	}
	if pattern == "" {
		pattern = subject
	}
	return trial{right: Right{Subject: pattern, Purpose: purpose}, msg: m}
}

func (t trial) optional() trial {
	t.right.Optional = true
	return t
}
