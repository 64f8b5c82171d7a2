package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"rollcall/internal/app"
)

const (
	probeTimeout = 3 * time.Second
	maxProbe     = 64 << 10
)

func (c *cli) probeCommand() *cobra.Command {
	var live bool
	command := &cobra.Command{
		Use:   "probe",
		Short: "Ask a running worker whether it is ready; for container health checks",
		Long: `Probe asks /readyz at ROLLCALL_HTTP_ADDR, with --live /livez, and prints the answer. It exits 0
if all is well and 1 otherwise. An image without a shell or curl needs nothing else.`,
		Example: "  worker probe\n  worker probe --live",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := app.Load(c.env)
			if err != nil {
				return err
			}
			target, err := probeURL(cfg.Web.Addr, live)
			if err != nil {
				return err
			}
			return c.probe(cmd.Context(), target)
		},
	}
	command.Flags().BoolVar(&live, "live", false, "ask whether it lives, not whether it is ready")
	return command
}

// probeURL turns an address to listen on into one to ask.
func probeURL(addr string, live bool) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("read ROLLCALL_HTTP_ADDR: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	page := "/readyz?verbose"
	if live {
		page = "/livez"
	}
	return "http://" + net.JoinHostPort(host, port) + page, nil
}

func (c *cli) probe(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	// A transport of its own: the default one would ask a proxy.
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("probe %s: %w; does the worker run, and with the same ROLLCALL_HTTP_ADDR?", target, err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(c.stdout, io.LimitReader(response.Body, maxProbe)); err != nil {
		return fmt.Errorf("probe %s: read the reply: %w", target, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("probe %s: %s", target, response.Status)
	}
	return nil
}
