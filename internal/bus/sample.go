package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Sample is what a stream took in on some subjects since a time.
type Sample struct {
	// Messages of that time that are still stored.
	Messages uint64
	// Size is what one of them takes in the store, in bytes: the mean of the first ones.
	Size float64
}

const (
	// sampled messages are looked at.
	sampled = 100
	// storedExtra is what the server adds to a message in its store (filestore.go, fileStoreMsgSize),
	// with the frame of headers.
	storedExtra = 22 + 8 + 4 + len("NATS/1.0\r\n\r\n")
	// perHeader is what a header takes besides its name and value: ": " and the line's end.
	perHeader = 4
)

// Sample looks at the messages of a stream on filter since then. The stream must allow direct
// gets.
func (c *Conn) Sample(ctx context.Context, stream, filter string, since time.Time) (s Sample, err error) {
	request, err := json.Marshal(struct {
		Since    time.Time `json:"start_time"`
		Next     string    `json:"next_by_subj"`
		Batch    int       `json:"batch"`
		MaxBytes int       `json:"max_bytes"`
	}{since, filter, sampled, lookBytes})
	if err != nil {
		return s, fmt.Errorf("encode a read of %s: %w", stream, err)
	}
	bytes := 0
	end, err := c.directGetReadable(ctx, stream, request, func(m stored) {
		s.Messages++
		bytes += storedExtra + len(m.subject) + len(m.data)
		for name, values := range m.header {
			if !answers[name] {
				for _, value := range values {
					bytes += len(name) + len(value) + perHeader
				}
			}
		}
	})
	if err != nil || s.Messages == 0 {
		return s, err
	}
	s.Size = float64(bytes) / float64(s.Messages)
	s.Messages += end.pending
	return s, nil
}

// answers are the headers that a direct get adds.
var answers = map[string]bool{
	"Nats-Stream": true, "Nats-Subject": true, "Nats-Sequence": true, "Nats-Time-Stamp": true, "Nats-Num-Pending": true,
	"Nats-Last-Sequence": true, "Nats-UpTo-Sequence": true,
}
