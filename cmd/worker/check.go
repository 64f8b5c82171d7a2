package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"rollcall/internal/app"
	"rollcall/internal/service"
	"rollcall/internal/table"
)

// checkFlags are the flags of check.
type checkFlags struct {
	data, file, subject string
	headers             []string
}

func (c *cli) checkCommand() *cobra.Command {
	var f checkFlags
	command := &cobra.Command{
		Use:   "check URL|NAME",
		Short: "Try out a service, and say how a pool would read each of its replies",
		Long: `Check sends a service the requests that a pool may send: a batch, the same again, an id that is used
twice, unusual ids, a body that is no job, the largest batch, wrong signatures. It prints what each
reply means to a pool. The jobs are real to the service; their ids begin with check-.

NAME is one of ROLLCALL_SERVICES and is checked with its settings; for a URL they are
ROLLCALL_SVC_CHECK_*. It needs no NATS, unless the service is on it. It exits 0 unless something is an
error.`,
		Example: `  worker check http://localhost:9000/jobs
  worker check billing --data '{"amount":100}' --subject jobs.order
  ROLLCALL_SVC_CHECK_FORMAT=plain worker check 'http://shop:8080/v1/orders/{data:/id}' --data '{"id":17}'`,
		Args: words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.check(cmd.Context(), args[0], &f) },
	}
	flags := command.Flags()
	flags.StringVar(&f.data, "data", `{"check":true}`, "body of the sample job")
	flags.StringVar(&f.file, "file", "", "read the body of the sample job from this file, '-' for standard input")
	flags.StringVar(&f.subject, "subject", "", "subject of the sample job (default one that the service takes)")
	flags.StringArrayVar(&f.headers, "header", nil, "a header of the sample job as Name:value; may be repeated")
	return command
}

func (c *cli) check(ctx context.Context, nameOrURL string, f *checkFlags) error {
	cfg, target, err := app.LoadCheck(c.env, nameOrURL)
	if err != nil {
		if errors.Is(err, app.ErrNoSuchService) {
			return usageError(err)
		}
		return err
	}
	sample, err := c.sample(f)
	if err != nil {
		return usageError(err)
	}
	opts := app.Options{Version: version, Replica: "check", Patience: commandPatience}
	findings, err := app.Check(ctx, cfg, target, zerolog.Nop(), opts, sample)
	if errors.Is(err, service.ErrSample) {
		return usageError(err)
	}
	if printing := c.printChecks(findings); printing != nil {
		return errors.Join(err, printing)
	}
	if err != nil {
		return err
	}
	wrong := 0
	for i := range findings {
		if findings[i].Grade == service.Wrong {
			wrong++
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d checks found an error", wrong, len(findings))
	}
	return nil
}

// sample reads the sample job of the flags.
func (c *cli) sample(f *checkFlags) (service.Sample, error) {
	sample := service.Sample{Subject: f.subject, Data: []byte(f.data), Header: map[string][]string{}}
	var err error
	switch f.file {
	case "":
	case "-":
		sample.Data, err = io.ReadAll(c.stdin)
	default:
		sample.Data, err = os.ReadFile(f.file)
	}
	if err != nil {
		return sample, fmt.Errorf("read the sample job: %w", err)
	}
	for _, h := range f.headers {
		name, value, found := strings.Cut(h, ":")
		if name = strings.TrimSpace(name); !found || name == "" {
			return sample, fmt.Errorf("--header %q: want Name:value", h)
		}
		sample.Header[name] = append(sample.Header[name], strings.TrimSpace(value))
	}
	return sample, nil
}

func (c *cli) printChecks(findings []service.Finding) error {
	return table.All(c.printer(), findings,
		table.Col("check", func(f service.Finding) string { return f.Check }),
		table.Col("health", func(f service.Finding) string { return string(f.Grade) }),
		table.Col("answer", func(f service.Finding) string { return f.Said }),
		table.Col("means", func(f service.Finding) string {
			if f.Advice == "" {
				return f.Read
			}
			return f.Read + "; " + f.Advice
		}),
	)
}
