package jobs_test

import (
	"errors"
	"testing"

	"rollcall/internal/jobs"
)

func TestSizeReadsWhatPeopleWrite(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]jobs.Size{
		"0": 0, "1000": 1000, "64KiB": 64 << 10, "1MiB": 1 << 20, "1mib": 1 << 20, " 2 GiB ": 2 << 30,
		"500KB": 500_000, "1.5MiB": 3 << 19, "7B": 7, "9223372036854775807": 1<<63 - 1,
	} {
		var got jobs.Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestSizeRefusesTheRest(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "MiB", "-1", "+1", "1e3", "0x10", "1_000", "ten", "1 MiB 2", "NaN", "Inf", "9223372036854775808", "9000000000GiB"} {
		got := jobs.Size(42)
		if err := got.UnmarshalText([]byte(text)); !errors.Is(err, jobs.ErrSize) {
			t.Errorf("%q: got %d, %v; want ErrSize", text, got, err)
		}
		if got != 42 {
			t.Errorf("%q: changed the value to %d", text, got)
		}
	}
}

func TestSizeSurvivesARoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []jobs.Size{0, 1, 1000, 1024, 1536, 1 << 20, 3 << 30, 1<<63 - 1} {
		text, _ := want.MarshalText()
		var got jobs.Size
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%d: written as %s, read as %d, %v", want, text, got, err)
		}
	}
}
