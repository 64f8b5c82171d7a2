package ledger_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"rollcall/internal/jobs"
	"rollcall/internal/ledger"
	"rollcall/internal/ledger/ledgertest"
)

// Two replicas finish the same jobs. The first commit is stored; the second is refused as a whole
// and names the jobs that are final, so that its replica can commit the rest.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	store := &ledgertest.Store{} // in production, the stream DONE
	first := ledger.New(store, ledgertest.Config(), zerolog.Nop())
	second := ledger.New(store, ledgertest.Config(), zerolog.Nop())
	ended := make(chan error, 2)
	go func() { ended <- first.Run(ctx) }()
	go func() { ended <- second.Run(ctx) }()

	fmt.Println(first.Commit(ctx, ledgertest.Settlement("a", jobs.Succeeded, 1, 2)))

	err := second.Commit(ctx, ledgertest.Settlement("b", jobs.Succeeded, 2, 3))
	var conflict *jobs.ConflictError
	fmt.Println(errors.As(err, &conflict), conflict.Final)

	fmt.Println(second.Commit(ctx, ledgertest.Settlement("c", jobs.Succeeded, 3)))
	stop()
	fmt.Println(errors.Join(<-ended, <-ended))
	// Output:
	// <nil>
	// true [true false]
	// <nil>
	// <nil>
}
