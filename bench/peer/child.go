package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// The names of the children.
const (
	ChildBroker   = "broker"
	ChildServices = "services"
	ChildFloor    = "floor"
	ChildSimple   = "simple"
)

// Args returns the arguments by which [Child] runs a child: its name and its settings.
func Args(name string, settings any) ([]string, error) {
	b, err := json.Marshal(settings)
	if err != nil {
		return nil, fmt.Errorf("encode the settings of %s: %w", name, err)
	}
	return []string{name, string(b)}, nil
}

// Child runs the child that args name, until ctx is done.
func Child(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return fmt.Errorf("run a child: want a name and its settings in JSON, got %d arguments", len(args))
	}
	name, settings := args[0], []byte(args[1])
	switch name {
	case ChildBroker:
		return runAs[Broker](ctx, settings, out)
	case ChildServices:
		return runAs[Services](ctx, settings, out)
	case ChildFloor:
		return runAs[Floor](ctx, settings, out)
	case ChildSimple:
		return runAs[Simple](ctx, settings, out)
	default:
		return fmt.Errorf("run a child: there is none named %q", name)
	}
}

type runner interface {
	Run(ctx context.Context, out io.Writer) error
}

func runAs[T runner](ctx context.Context, settings []byte, out io.Writer) error {
	var child T
	if err := json.Unmarshal(settings, &child); err != nil {
		return fmt.Errorf("read the settings of a child: %w", err)
	}
	return child.Run(ctx, out)
}
