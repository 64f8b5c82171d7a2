package bus_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
)

const minPull = 1 << 20

func TestHowMuchIsAskedFor(t *testing.T) {
	t.Parallel()
	room := func(n int) jobs.Room { return jobs.Room{Jobs: n, Bytes: 8 << 20} }
	for name, tt := range map[string]struct {
		room, waiting jobs.Room
		out           int
		want          int
		bytes         int64
	}{
		"whole pages":                         {room: room(100), want: 96, bytes: 8 << 20},
		"less than a page, nothing under way": {room: room(5), want: 5, bytes: 8 << 20},
		"less than a page, some under way":    {room: room(25), out: 16},
		"the share of the room is free":       {room: room(2304), out: 2208, want: 96, bytes: 7 << 20},
		"less than the share is free":         {room: room(2304), out: 2220},
		"full":                                {room: room(96), out: 96},
		"what waits takes room":               {room: room(96), waiting: jobs.Room{Jobs: 96, Bytes: 100}},
		"what waits takes bytes":              {room: room(96), waiting: jobs.Room{Jobs: 16, Bytes: 4 << 20}, want: 80, bytes: 4 << 20},
		"few bytes left, some under way":      {room: jobs.Room{Jobs: 96, Bytes: minPull + minPull/2}, out: 16},
		"few bytes left, nothing under way":   {room: jobs.Room{Jobs: 96, Bytes: 10}, want: 96, bytes: minPull},
		"no room":                             {},
	} {
		var p bus.Pulls
		if tt.out > 0 {
			p.Begin(tt.out, 1<<20, time.Now())
		}
		n, bytes := p.Size(tt.room, tt.waiting, minPull)
		if n != tt.want || (n > 0 && bytes != tt.bytes) {
			t.Errorf("%s: asked for %d jobs and %d bytes, want %d and %d", name, n, bytes, tt.want, tt.bytes)
		}
	}
}

func TestARankIsKeptAsLongAsAPullMayWait(t *testing.T) {
	t.Parallel()
	var p bus.Pulls
	start := time.Now()
	drawn := 0
	draw := func(n int) int {
		if n != 10 {
			t.Errorf("drew below %d; the server takes ranks 0 to 9", n)
		}
		drawn++
		return drawn
	}
	for after, want := range []int{1, 1, 1, 1, 2, 2, 2, 2, 3} { // every quarter of a second
		if got := p.Turn(start.Add(time.Duration(after)*250*time.Millisecond), draw); got != want {
			t.Errorf("after %d quarters the rank is of draw %d, want %d", after, got, want)
		}
	}
}

func TestAPullWithoutAnEndIsWrittenOff(t *testing.T) {
	t.Parallel()
	var p bus.Pulls
	start := time.Now()
	p.Begin(96, minPull, start)
	p.Arrived(1000)
	if due := p.Expire(start.Add(time.Second)); !due.After(start.Add(time.Second)) {
		t.Errorf("the next pull is overdue at %v, want after its expiry", due.Sub(start))
	}
	if n, _ := p.Outstanding(); n != 95 {
		t.Errorf("%d jobs under way, want 95", n)
	}
	if due := p.Expire(start.Add(time.Minute)); !due.IsZero() {
		t.Errorf("a pull is still waited for until %v", due)
	}
	if n, bytes := p.Outstanding(); n != 0 || bytes != 0 {
		t.Errorf("%d jobs and %d bytes under way after all pulls ended, want none", n, bytes)
	}
}

// TestAPullWhoseBytesAreUsedUpIsOver: nats-server ends a pull whose max_bytes were used up to the
// last one without a status, with jobs of its batch to spare. They were waited for until the pull
// was written off, two seconds later, in room that nothing else could use.
func TestAPullWhoseBytesAreUsedUpIsOver(t *testing.T) {
	t.Parallel()
	now := time.Now()
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		var p bus.Pulls
		p.Begin(96, 3000, now)
		for range 3 {
			p.Arrived(1000)
		}
		if n, bytes := p.Outstanding(); n != 0 || bytes != 0 {
			t.Errorf("%d jobs and %d bytes under way, want none", n, bytes)
		}
	})
	t.Run("beside one that ends with a status", func(t *testing.T) {
		t.Parallel()
		var p bus.Pulls
		p.Begin(96, 2000, now)
		other := p.Begin(1, 5000, now)
		for range 3 {
			p.Arrived(1000)
		}
		if n, _ := p.Outstanding(); n != 94 {
			t.Errorf("%d jobs under way while it is not certain which pull is over, want 94", n)
		}
		p.Ended(other, 0, 4000, now)
		if n, bytes := p.Outstanding(); n != 0 || bytes != 0 {
			t.Errorf("%d jobs and %d bytes under way, want none", n, bytes)
		}
	})
}

// TestTheAccountIsNeverTooLow plays a broker that serves pulls in turns, ends them with and
// without telling, and loses statuses: what is said to be under way is at least what is, and
// it is zero once nothing is.
func TestTheAccountIsNeverTooLow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var p bus.Pulls
		open := make(map[uint64]int) // what the broker will still deliver
		var order []uint64
		now := time.Now()
		end := func(i int) uint64 {
			number := order[i]
			order = append(order[:i], order[i+1:]...)
			delete(open, number)
			return number
		}
		total := func() (n int) {
			for _, left := range open {
				n += left
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) {
				n := rapid.IntRange(1, 100).Draw(t, "jobs")
				number := p.Begin(n, int64(n)*100, now)
				open[number], order = n, append(order, number)
			},
			"deliver": func(t *rapid.T) {
				if len(order) == 0 {
					return
				}
				i := rapid.IntRange(0, len(order)-1).Draw(t, "pull")
				if open[order[i]] == 0 {
					return
				}
				open[order[i]]--
				p.Arrived(int64(rapid.IntRange(1, 100).Draw(t, "size")))
			},
			"end": func(t *rapid.T) {
				if len(order) == 0 {
					return
				}
				i := rapid.IntRange(0, len(order)-1).Draw(t, "pull")
				left := open[order[i]]
				// The broker counts other bytes than we do.
				p.Ended(end(i), left, int64(left*rapid.IntRange(0, 100).Draw(t, "bytes")), now)
			},
			"refuse": func(t *rapid.T) {
				if len(order) > 0 {
					p.WriteOff(end(rapid.IntRange(0, len(order)-1).Draw(t, "pull")))
				}
			},
			"": func(t *rapid.T) {
				if n, _ := p.Outstanding(); n < total() {
					t.Fatalf("%d jobs are said to be under way, %d are", n, total())
				}
			},
		})
		for len(order) > 0 {
			p.WriteOff(end(0))
		}
		p.Expire(now.Add(time.Minute))
		if n, bytes := p.Outstanding(); n != 0 || bytes != 0 {
			t.Fatalf("%d jobs and %d bytes under way without a pull", n, bytes)
		}
	})
}
