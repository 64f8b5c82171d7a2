package bus

import (
	"math"
	"strings"
	"time"
)

// ackReply is what the reply subject of a JetStream delivery says.
type ackReply struct {
	delivered   uint64
	streamSeq   uint64
	consumerSeq uint64
	published   time.Time
}

const ackPrefix = "$JS.ACK."

// parseAckReply reads both forms of the subject (server/consumer.go, NewConsumer and
// ackReply):
//
//	$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
//	$JS.ACK.<domain>.<account>.<stream>.<consumer>.<delivered>. … .<pending>[.<more>]
//
// It allocates nothing. ok is false for anything else: such a message did not come out of a
// stream and must not be acked.
func parseAckReply(subject string) (r ackReply, ok bool) {
	rest, found := strings.CutPrefix(subject, ackPrefix)
	if !found {
		return r, false
	}
	skip := 0
	switch tokens := strings.Count(rest, ".") + 3; {
	case tokens == 9:
		skip = 2
	case tokens >= 11:
		skip = 4
	default:
		return r, false
	}
	for range skip {
		token := ""
		if token, rest, _ = strings.Cut(rest, "."); token == "" {
			return r, false
		}
	}
	var numbers [5]uint64
	for i := range numbers {
		token := ""
		token, rest, _ = strings.Cut(rest, ".")
		if numbers[i], ok = parseUint(token); !ok {
			return r, false
		}
	}
	if numbers[0] == 0 || numbers[1] == 0 || numbers[3] > math.MaxInt64 {
		return r, false
	}
	return ackReply{
		delivered: numbers[0], streamSeq: numbers[1], consumerSeq: numbers[2],
		published: time.Unix(0, int64(numbers[3])),
	}, true
}

// parseUint is strconv.ParseUint without its error, which allocates.
func parseUint(s string) (n uint64, ok bool) {
	if s == "" || len(s) > 19 {
		return 0, false
	}
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + uint64(c)
	}
	return n, true
}
