package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"rollcall/internal/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBackoffDoublesUpToItsLimitAndStartsAgain(t *testing.T) {
	t.Parallel()
	b := retry.Backoff{Lo: time.Second, Hi: 5 * time.Second}
	for round := range 2 {
		for i, want := range []time.Duration{1, 2, 4, 5, 5} {
			want *= time.Second
			if got := b.Next(); got < want/2 || got > want || b.Last() != want {
				t.Errorf("round %d, pause %d: %v of %v, want something between half of %v and all", round, i, got, b.Last(), want)
			}
		}
		if b.Reset(); b.Last() != 0 {
			t.Errorf("after Reset the last pause is %v", b.Last())
		}
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("drained")
		ctx, cancel := context.WithCancelCause(t.Context())
		start := time.Now()
		if err := retry.Wait(ctx, time.Minute); err != nil || time.Since(start) != time.Minute {
			t.Errorf("Wait() = %v after %v", err, time.Since(start))
		}
		cancel(cause)
		if err := retry.Wait(ctx, time.Minute); !errors.Is(err, cause) || time.Since(start) != time.Minute {
			t.Errorf("Wait() = %v after %v, want the cause at once", err, time.Since(start))
		}
	})
}

func TestAnOutageIsLoggedOnceItLasts(t *testing.T) {
	t.Parallel()
	for lasts, want := range map[time.Duration]int{9 * time.Second: 0, time.Minute: 1} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			o := retry.NewOutage(zerolog.New(&log), "reading")
			for start := time.Now(); time.Since(start) <= lasts; time.Sleep(time.Second) {
				o.Failed(fmt.Errorf("no reply"))
			}
			o.Ended()
			o.Ended()
			for _, text := range []string{"reading fails, retrying", "reading works again"} {
				if got := strings.Count(log.String(), text); got != want {
					t.Errorf("after %v the log says %q %d times, want %d:\n%s", lasts, text, got, want, &log)
				}
			}
		})
	}
}

func FuzzAfter(f *testing.F) {
	for _, value := range []string{"7", "-1", "1e3", "99999999999999999999", "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", ""} {
		f.Add(value, int64(784111777))
	}
	f.Fuzz(func(t *testing.T, value string, now int64) {
		if d := retry.After(value, time.Unix(now, 0), time.Minute); d < 0 || d > time.Minute {
			t.Fatalf("%q gave %v", value, d)
		}
	})
}
