package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rollcall/internal/retry"
)

// Something that fails is tried again after pauses that double, until it works or ctx ends.
func ExampleBackoff() {
	ctx, tries := context.Background(), 0
	dial := func() error {
		if tries++; tries < 3 {
			return errors.New("connection refused")
		}
		return nil
	}
	pauses := retry.Backoff{Lo: time.Millisecond, Hi: 10 * time.Millisecond}
	for dial() != nil {
		if err := retry.Wait(ctx, pauses.Next()); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Printf("it works at try %d; the last pause was up to %v\n", tries, pauses.Last())
	// Output: it works at try 3; the last pause was up to 2ms
}
