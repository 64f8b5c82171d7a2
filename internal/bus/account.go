package bus

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Tier is what the account may use for streams of so many replicas: its limits, and what is used.
// Hosted accounts have limits for each number of replicas instead of common ones.
func Tier(account *jetstream.AccountInfo, replicas int) jetstream.Tier {
	if tier, ok := account.Tiers[fmt.Sprintf("R%d", replicas)]; ok {
		return tier
	}
	return account.Tier
}

// bytesSetting is the setting of the limit of a stream of ours.
func bytesSetting(stream string) string {
	switch {
	case stream == StreamLater:
		return "ROLLCALL_LATER_BYTES"
	case stream == StreamDead:
		return "ROLLCALL_DEAD_BYTES"
	case strings.HasPrefix(stream, StreamDone):
		return "ROLLCALL_DONE_BYTES"
	default:
		return "ROLLCALL_STREAM_BYTES"
	}
}

// foretell says of streams that are missing whether the account would refuse them as they are
// wanted. A user who may not ask for the limits of the account learns it from [Setup.Ensure].
func (s *Setup) foretell(ctx context.Context, objects []object, differences []Difference) {
	wanted := map[string]*jetstream.StreamConfig{}
	for _, o := range objects {
		if stream, ok := o.(streamObject); ok {
			wanted[o.name()] = &stream.want
		}
	}
	var limits *jetstream.AccountLimits
	for i := range differences {
		want := wanted[differences[i].Object]
		if !differences[i].Missing || want == nil {
			continue
		}
		if limits == nil {
			ctx, cancel := context.WithTimeout(ctx, optionalTimeout)
			account, err := s.conn.js.AccountInfo(ctx)
			cancel()
			if err != nil {
				return
			}
			tier := Tier(account, s.streams.Replicas)
			limits = &tier.Limits
		}
		setting := bytesSetting(want.Name)
		switch most := limits.StoreMaxStreamBytes; {
		case want.MaxBytes <= 0 && limits.MaxBytesRequired:
			differences[i].Harm = "the account refuses a stream without a limit: set " + setting
		case most > 0 && want.MaxBytes > most:
			differences[i].Harm = fmt.Sprintf("the account allows a stream at most %d bytes: lower %s", most, setting)
		}
	}
}
