package app

import (
	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
)

// Peers knows the other replicas of a pool.
type Peers struct{ peers *peers }

// NewPeers returns peers that ask nobody.
func NewPeers(log zerolog.Logger) Peers { return Peers{newPeers(nil, nil, "", log)} }

// Report is what follows a look at the settings of all replicas.
func (p Peers) Report(differences []jobs.Difference) { p.peers.report(differences) }
