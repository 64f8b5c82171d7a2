package bus_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

// TestEqualJobsComeWithoutAPause: where the bytes of a pull are used up to the last one, the
// broker ends it without a word (server/consumer.go, loopAndGatherMsgs). Asked for in bytes that
// just came free, jobs of one size do that again and again, and each time the rest of the pull
// is waited for until it is overdue.
func TestEqualJobsComeWithoutAPause(t *testing.T) {
	t.Parallel()
	const n = 16_000
	conn := connect(t, startServer(t))
	setup := ensure(t, conn, streams())
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = bytes.Repeat([]byte("x"), 256)
	}
	publish(t, conn, "jobs.a", bodies...)
	source, intake, _ := openSource(t, setup, conn)
	var longest time.Duration
	last, rooms := time.Now(), rand.New(rand.NewPCG(1, 2))
	for got := 0; got < n; {
		room := jobs.Room{Jobs: 96 + rooms.IntN(2304-96), Bytes: 16 << 20}
		chunk, err := within(t, func() ([]jobs.Delivery, error) { return source.Receive(intake, room) })
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		longest, last = max(longest, now.Sub(last)), now
		got += len(chunk)
		ackAll(t, source, chunk)
	}
	if longest > time.Second {
		t.Errorf("nothing came for %v although jobs were waiting", longest)
	}
}

// TestWhatIsAskedForFitsTheWindow: in jobs of the size that came last, with bytes to spare, so
// that a pull ends by its number.
func TestWhatIsAskedForFitsTheWindow(t *testing.T) {
	t.Parallel()
	const size, lease = 300, 30 * time.Second
	room := jobs.Room{Jobs: 2304, Bytes: 64 << 20}
	p := bus.NewPulls()
	begun := time.Now()
	n, asked := p.Size(room, jobs.Room{}, minPull)
	if asked > 64<<10 {
		t.Errorf("asked for %d bytes at first, want no more than any link carries", asked)
	}
	grown := int64(0)
	for round := range 12 {
		number := p.Begin(n, asked, begun)
		came := min(n, int(asked/size))
		for range came {
			p.Arrived(size)
		}
		p.End(number, n-came, asked-int64(came*size), 50*time.Millisecond, lease)
		if n, asked = p.Size(room, jobs.Room{}, minPull); asked <= int64(n)*size {
			t.Fatalf("round %d: asked for %d jobs and %d bytes, which %d jobs use up", round, n, asked, asked/size)
		}
		if n == room.Jobs {
			break
		}
		if bytes := int64(n) * size; bytes <= grown {
			t.Fatalf("round %d: asked for %d bytes of jobs after %d, although they come at once", round, bytes, grown)
		} else {
			grown = bytes
		}
	}
	if n != room.Jobs {
		t.Errorf("asked for %d jobs in the end, want as many as there is room for", n)
	}
	number := p.Begin(n, asked, begun)
	for range n {
		p.Arrived(size)
	}
	p.End(number, 0, asked-int64(n*size), 20*time.Second, lease)
	if fewer, _ := p.Size(room, jobs.Room{}, minPull); fewer >= n {
		t.Errorf("asked for %d jobs after so many took 20 s to arrive", fewer)
	}
}
