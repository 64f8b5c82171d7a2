package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"

	"rollcall/internal/table"
)

// Stamped by the linker: -ldflags "-X main.version=v1.2.3 -X main.revision=…". A plain
// 'go build' in a checkout leaves them empty, and the build info is asked instead.
var version, revision string

// build says which program this is.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print version, revision and the Go version it was built with",
		Args:    cobra.NoArgs,
		Example: "  worker version -o json",
		RunE: func(*cobra.Command, []string) error {
			return table.One(c.printer(), thisBuild(),
				table.Col("version", func(b build) string { return b.Version }),
				table.Col("revision", func(b build) string { return b.Revision }),
				table.Col("go", func(b build) string { return b.Go }),
			)
		},
	}
}

func thisBuild() build {
	b := build{Version: version, Revision: revision}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && b.Revision == "":
			b.Revision = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true" && revision == "":
			b.Revision += "-dirty"
		}
	}
	if b.Revision == "" {
		b.Revision = "unknown"
	}
	return b
}
