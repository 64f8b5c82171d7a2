package sim_test

import (
	"slices"
	"time"
)

// right is one of those that a replica needs of its account.
type right int

const (
	toCommit right = iota
	toBury
	toAck
	toPull
	toRead
	// toHear is that to its inbox: what it asks for is done, and it is not told.
	toHear
	numRights
)

// may reports whether the replica has all of some rights at the moment. What is denied is silence
// to the one who asks.
func (r *replica) may(rights ...right) bool {
	return !slices.ContainsFunc(rights, func(x right) bool { return r.denied[x].Load() })
}

// deny takes a right from a replica for some time.
func (n *nemesis) deny(r *replica) {
	denied := &r.denied[n.dice.between(0, int(numRights)-1)]
	n.world.disturbed(r.name)
	denied.Store(true)
	time.AfterFunc(n.dice.upTo(3*ackWait), func() { denied.Store(false) })
}

// allow gives all rights back.
func (r *replica) allow() {
	for i := range r.denied {
		r.denied[i].Store(false)
	}
}
