package bus

import (
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// minRelief and maxRelief pace the reconnects that make lost subscriptions again.
	minRelief = 2 * time.Second
	maxRelief = 15 * time.Second
	// reliefCalm is how long nothing must have been lost until the pace starts again.
	reliefCalm = time.Minute
)

// lost notes that the server has dropped or refused a subscription; empty = any of them. A
// server does so when a right is taken away or a limit lowered by a reload, and it does not
// make it again when that is undone; nor does nats.go, which makes all of them again only when
// it reconnects. No connection is broken for a subscription that no work depends on, see
// [Conn.OnLost].
func (c *Conn) lost(subject string) {
	if subject != "" && !strings.HasPrefix(subject, c.inbox) && !c.needs(subject) {
		c.mu.Lock()
		told := slices.Clone(c.letGo)
		c.mu.Unlock()
		for _, f := range told {
			f(subject)
		}
		return
	}
	signal(c.dropped)
}

// OnLost registers what is called with the subject of a subscription that the server has dropped
// or refused, and that no work depends on. It must not block.
func (c *Conn) OnLost(f func(subject string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.letGo = append(c.letGo, f)
}

// needs reports whether a part of the worker depends on the subscription.
func (c *Conn) needs(subject string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, needed := c.needed[subject]
	return needed
}

// need says that the worker depends on a subscription to subject.
func (c *Conn) need(subject string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.needed == nil {
		c.needed = make(map[string]struct{})
	}
	c.needed[subject] = struct{}{}
}

// relieve reconnects after subscriptions were lost, again and again as long as they are
// refused, until the connection is closed.
func (c *Conn) relieve(nc *nats.Conn) {
	pace, last := minRelief, time.Time{}
	for {
		select {
		case <-c.dropped:
		case <-c.closed:
			return
		}
		if time.Since(last) > reliefCalm {
			pace = minRelief
		}
		t := time.NewTimer(pace)
		select {
		case <-t.C:
		case <-c.closed:
			t.Stop()
			return
		}
		pace, last = min(2*pace, maxRelief), time.Now()
		select {
		case <-c.dropped: // all that was lost meanwhile is made again too
		default:
		}
		if !nc.IsConnected() {
			continue // the reconnect that is under way makes them again
		}
		c.log.Warn().Msg("the server has dropped subscriptions, reconnecting to make them again")
		if err := nc.ForceReconnect(); err != nil {
			c.log.Debug().Err(err).Msg("could not reconnect")
		}
	}
}
