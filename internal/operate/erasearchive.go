package operate

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// archiveAgain is how long an event stays in DONE that is there only for the archive to take it up, in
// seconds.
const archiveAgain = "3600"

// eraseArchived removes the events of the jobs from the archive, if there is one, which takes up the
// rewritten ones by itself. Those that only the archive has go through DONE once more.
func (a *Admin) eraseArchived(ctx context.Context, e *erasing, done *Erasure) error {
	found, err := a.storedEvents(ctx, a.conn.History(), bus.HistoryFilter(a.pool), e.speaksOf)
	if errors.Is(err, bus.ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, m := range found {
		if err := a.archiveAnew(ctx, m, e.uids); err != nil {
			return err
		}
		if err := a.wipe(ctx, a.conn.History(), m.Sequence); err != nil {
			return err
		}
		done.Archived++
	}
	return nil
}

// archiveAnew publishes the redacted event of the archive, unless DONE has the event.
func (a *Admin) archiveAnew(ctx context.Context, m *jetstream.RawStreamMsg, uids map[string]bool) error {
	subject, _, ok := bus.ArchivedEvent(m.Header.Get("Nats-Stream-Source"))
	if !ok {
		return fmt.Errorf("message %d of %s does not say where it comes from", m.Sequence, a.conn.History())
	}
	data, err := redacted(m.Data, uids)
	if err != nil {
		return err
	}
	again := &nats.Msg{Subject: subject, Header: nats.Header{jetstream.MsgTTLHeader: {archiveAgain}, "Content-Type": {jobs.MediaEvent}}, Data: data}
	_, err = a.conn.JetStream().PublishMsg(ctx, again, jetstream.WithExpectLastSequencePerSubject(0))
	if err != nil && !errors.As(err, new(*jetstream.APIError)) {
		return a.conn.Explain("publish event "+subject+" for the archive", err)
	}
	return nil
}
