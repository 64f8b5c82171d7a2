package bus

import (
	"context"
	"encoding/json"
	"fmt"

	"rollcall/internal/ledger"
)

// scanSize is how many messages one scan reads.
const scanSize = 512

// upkeep is what the ledger of a pool is kept small by.
type upkeep struct {
	ledger.Store
	conn  *Conn
	setup *Setup
}

// NewUpkeep returns the upkeep of the ledger of the pool that setup is for.
func NewUpkeep(conn *Conn, setup *Setup) ledger.Upkeep {
	return upkeep{Store: doneStore{conn, setup.water}, conn: conn, setup: setup}
}

// Floor implements [ledger.Upkeep].
func (u upkeep) Floor(ctx context.Context) (ledger.Floor, error) {
	stream, err := u.conn.js.Stream(ctx, u.setup.streams.Stream)
	if err != nil {
		return ledger.Floor{}, u.setup.conn.Explain("look up stream "+u.setup.streams.Stream, err)
	}
	consumer, err := stream.Consumer(ctx, u.setup.pool)
	if err != nil {
		return ledger.Floor{}, u.setup.conn.Explain("look up consumer "+u.setup.pool, err)
	}
	done, err := u.conn.js.Stream(ctx, u.conn.Done())
	if err != nil {
		return ledger.Floor{}, u.setup.conn.Explain("look up stream "+u.conn.Done(), err)
	}
	return ledger.Floor{
		Created: stream.CachedInfo().Created,
		Seq:     consumer.CachedInfo().AckFloor.Stream,
		Now:     done.CachedInfo().TimeStamp, // the clock that pages are stored by
	}, nil
}

// Scan implements [ledger.Upkeep] by a batched direct get.
func (u upkeep) Scan(ctx context.Context, filter string, from uint64) (entries []ledger.Entry, err error) {
	request, err := json.Marshal(struct {
		Seq   uint64 `json:"seq"`
		Next  string `json:"next_by_subj"`
		Batch int    `json:"batch"`
	}{from, filter, scanSize})
	if err != nil {
		return nil, fmt.Errorf("encode a scan of %s: %w", u.conn.Done(), err)
	}
	_, err = u.conn.directGet(ctx, u.conn.Done(), request, func(m stored) { entries = append(entries, m.entry()) })
	return entries, err
}

// Newest implements [ledger.Upkeep].
func (u upkeep) Newest(ctx context.Context, filter string) (ledger.Entry, error) {
	m, _, err := u.conn.directGetOne(ctx, u.conn.Done(), messageRequest{Last: filter})
	return m.entry(), err
}

// Purge implements [ledger.Upkeep].
func (u upkeep) Purge(ctx context.Context, filter string) (uint64, error) {
	return u.conn.purge(ctx, u.conn.Done(), purgeRequest{Filter: filter})
}
