package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"rollcall/internal/demo"
	"rollcall/internal/devkit"
)

// demoServicesCommand runs the demo's microservices by themselves, for container set-ups.
func (c *cli) demoServicesCommand() *cobra.Command {
	addrs := map[string]*string{}
	cmd := &cobra.Command{
		Use:     "demo-services",
		Short:   "Run the demo's microservices by themselves",
		Hidden:  true,
		Example: "  worker demo-services --fast :9001 --steady :9002 --flaky=   # without the flaky one",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.demoServices(cmd.Context(), addrs) },
	}
	for i, name := range []string{"fast", "steady", "flaky"} {
		addrs[name] = cmd.Flags().String(name, fmt.Sprintf("127.0.0.1:%d", 9001+i), "address of the "+name+" service; empty for none")
	}
	return cmd
}

func (c *cli) demoServices(ctx context.Context, addrs map[string]*string) (err error) {
	for name, behaviour := range demo.Behaviours(devkit.NewFlaky(demo.FlakySeed)) {
		if *addrs[name] == "" {
			continue
		}
		service, listenErr := devkit.Serve(ctx, *addrs[name], behaviour, nil)
		if listenErr != nil {
			return listenErr
		}
		defer func() {
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			err = errors.Join(err, service.Shutdown(ending))
		}()
		fmt.Fprintf(c.stderr, "%s: %s\n", name, service.URL())
	}
	<-ctx.Done()
	return nil
}
