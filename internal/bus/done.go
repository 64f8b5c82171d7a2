package bus

// The values of ROLLCALL_DONE.
const (
	DoneShared = "shared"
	DoneOwn    = "own"
)

// DoneStream is where a pool with these settings keeps events and ledger: all pools of an
// account in DONE, or each in a stream of its own.
func (s *Streams) DoneStream(pool string) string {
	if s.Done == DoneOwn {
		return StreamDone + "_" + pool
	}
	return StreamDone
}

// KeepDoneIn names the stream of events and ledger of the pool that the connection is for. It
// must be called before the connection is used, and returns c.
func (c *Conn) KeepDoneIn(stream string) *Conn {
	c.done = stream
	return c
}

// Done is the stream of events and ledger.
func (c *Conn) Done() string {
	if c.done == "" {
		return StreamDone
	}
	return c.done
}
