package bus_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/internal/bus"
	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// perBucket is how many jobs share a bucket.
const perBucket = jobs.PageSize * jobs.PagesPerBucket

// commitSpan makes jobs from..to-1 of an epoch final, in batches of 500.
func commitSpan(t *testing.T, conn *bus.Conn, epoch string, from, to uint64) {
	t.Helper()
	l := runLedger(t, bus.NewDoneStore(conn))
	ctx := patient(t)
	var wg sync.WaitGroup
	for ; from < to; from += 500 {
		s := ledgertest.Settlement(fmt.Sprintf("%s-%d", epoch, from), jobs.Succeeded, ledgertest.Span(from, min(from+500, to))...)
		for _, j := range s.Batch.Jobs {
			j.Ref.Epoch = epoch
		}
		wg.Go(func() {
			if err := l.Commit(ctx, s); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func newSweeper(conn *bus.Conn, setup *bus.Setup) *ledger.Sweeper {
	store := bus.NewUpkeep(conn, setup)
	return ledger.NewSweeper(store, ledgertest.Names(), ledger.NewRetentions(store, ledgertest.Names(), setup.Retention()), nopLog())
}

func sweep(t *testing.T, setup *bus.Setup, conn *bus.Conn) uint64 {
	t.Helper()
	n, err := newSweeper(conn, setup).Sweep(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// buckets counts the pages that are left, by bucket.
func buckets(t *testing.T, conn *bus.Conn) map[string]int {
	t.Helper()
	left := make(map[string]int)
	for subject := range stored(t, conn, ledgertest.Names().Pages()) {
		tokens := strings.Split(subject, ".")
		left[tokens[5]+"/"+tokens[6]]++
	}
	return left
}

// TestTheLedgerShrinksToRateTimesHorizon runs 20,000 jobs through stream, source and ledger.
func TestTheLedgerShrinksToRateTimesHorizon(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	s.ZombieHorizon, s.AckWait = time.Second, time.Minute
	setup := ensure(t, conn, s)
	const total = 20_000
	publish(t, conn, "jobs.a", numbered(total)...)
	source, intake, _ := openSource(t, setup, conn)
	l := runLedger(t, bus.NewDoneStore(conn))
	var epoch string
	for done := 0; done < total; {
		got := receive(t, intake, source, min(1000, total-done))
		epoch = got[0].Ref.Epoch
		batch := ledgertest.Settlement(fmt.Sprintf("b%d", done), jobs.Succeeded)
		for i := range got {
			batch.Batch.Jobs = append(batch.Batch.Jobs, &jobs.Job{Delivery: got[i]})
			batch.Rulings = append(batch.Rulings, jobs.Ruling{Outcome: jobs.Succeeded})
		}
		if err := l.Commit(patient(t), batch); err != nil {
			t.Fatal(err)
		}
		ackAll(t, source, got)
		done += len(got)
	}
	eventually(t, "all jobs are acked", func() bool { return jobsLeft(t, conn) == 0 })
	if before := len(stored(t, conn, ledgertest.Names().Pages())); before < total/jobs.PageSize/2 {
		t.Fatalf("%d pages before the sweep: the test proves nothing", before)
	}

	// Once the horizon has passed, what stays is the bucket that the stream's end lies in.
	eventually(t, "only the last bucket is left", func() bool {
		sweep(t, setup, conn)
		return len(buckets(t, conn)) <= 1
	})
	last := jobs.Ref{Epoch: epoch, Seq: total}
	if got, err := l.Load(patient(t), []jobs.Ref{last}); err != nil || !got[0].Final {
		t.Errorf("the last job's record is %+v, %v; its bucket is not full and must stay", got, err)
	}
	if n := len(stored(t, conn, bus.EventsFilter(pool))); n == 0 {
		t.Error("the sweep took the events as well")
	}
}

func TestNothingIsSweptInsideTheHorizon(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	s.ZombieHorizon = time.Hour
	setup := ensure(t, conn, s)
	epochOf := streamEpoch(t, conn)
	passFloor(t, setup, conn, perBucket+1)
	commitSpan(t, conn, epochOf, 0, perBucket)
	if n := sweep(t, setup, conn); n != 0 {
		t.Errorf("%d pages younger than the horizon were swept", n)
	}
}

func TestNothingIsSweptAboveTheAckFloor(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	s.ZombieHorizon = time.Second
	setup := ensure(t, conn, s)
	epochOf := streamEpoch(t, conn)
	// What must stay was written first: more of it than a sweep looks at in one request.
	commitSpan(t, conn, epochOf, perBucket, 4*perBucket)
	commitSpan(t, conn, epochOf, 0, perBucket)
	older := jobs.Epoch(time.Unix(1, 0))
	newer := jobs.Epoch(time.Now().Add(time.Hour))
	commitSpan(t, conn, older, 0, 100)
	commitSpan(t, conn, newer, 0, 100)

	// The floor is inside of bucket 1: bucket 0 is due, and all of the older epoch.
	passFloor(t, setup, conn, perBucket+10)
	eventually(t, "what is due is swept", func() bool {
		sweep(t, setup, conn)
		left := buckets(t, conn)
		return left[older+"/0"] == 0 && left[epochOf+"/0"] == 0
	})
	left := buckets(t, conn)
	for bucket, want := range map[string]int{
		epochOf + "/1": jobs.PagesPerBucket, epochOf + "/2": jobs.PagesPerBucket, epochOf + "/3": jobs.PagesPerBucket, newer + "/0": 7,
	} {
		if left[bucket] != want {
			t.Errorf("bucket %s has %d pages left, want %d", bucket, left[bucket], want)
		}
	}
}

// TestOneYoungPageKeepsItsBucket: a zombie's neighbour wrote there lately.
func TestOneYoungPageKeepsItsBucket(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	s.ZombieHorizon = 3 * time.Second
	setup := ensure(t, conn, s)
	epochOf := streamEpoch(t, conn)
	passFloor(t, setup, conn, perBucket+1)
	commitSpan(t, conn, epochOf, 0, 160)
	old := time.Now()
	eventually(t, "the pages are older than the horizon", func() bool { return time.Since(old) > s.ZombieHorizon+100*time.Millisecond })
	commitSpan(t, conn, epochOf, 1600, 1601)
	if n := sweep(t, setup, conn); n != 0 {
		t.Errorf("%d pages were swept out of a bucket that was written to just now", n)
	}
}

func TestTheSweeperRunsUntilItsEnd(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t))
	s := streams()
	s.ZombieHorizon = time.Second
	setup := ensure(t, conn, s)
	commitSpan(t, conn, jobs.Epoch(time.Unix(1, 0)), 0, 100)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- newSweeper(conn, setup).Run(ctx) }()
	eventually(t, "the old epoch is swept by itself", func() bool { return len(buckets(t, conn)) == 0 })
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
}

func streamEpoch(t *testing.T, conn *bus.Conn) string {
	t.Helper()
	stream, err := jetStream(t, conn).Stream(t.Context(), "JOBS")
	if err != nil {
		t.Fatal(err)
	}
	return jobs.Epoch(stream.CachedInfo().Created)
}

// passFloor moves the consumer's ack floor to seq.
func passFloor(t *testing.T, setup *bus.Setup, conn *bus.Conn, seq int) {
	t.Helper()
	publish(t, conn, "jobs.a", numbered(seq)...)
	source, intake, _ := openSource(t, setup, conn)
	ackAll(t, source, receive(t, intake, source, seq))
	eventually(t, "the floor has passed", func() bool {
		consumer, err := jetStream(t, conn).Consumer(t.Context(), "JOBS", pool)
		return err == nil && consumer.CachedInfo().AckFloor.Stream == uint64(seq)
	})
}
