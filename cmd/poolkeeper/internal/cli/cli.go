// Package cli is the command line of poolkeeper: its commands, flags, streams and exit codes.
//
//	args ──▶ Root ──▶ doctor ──▶ package doctor
//	             ├──▶ watch  ──▶ package watch
//	             ├──▶ check, plan ──▶ the library's package config
//	             └──▶ completion, help
//
// It does no work of its own: a command reads its flags and calls its package.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	ExitOK       = 0
	ExitFindings = 1 // a server is unreachable, or something should be changed
	ExitUsage    = 2 // the command line cannot be understood
)

// Streams holds the environment and output streams of a command.
type Streams struct {
	Out, Err io.Writer
	Getenv   func(string) string
}

// errFindings ends a command that has printed its findings.
var errFindings = errors.New("findings")

// failureError is an error that is not the fault of the command line.
type failureError struct{ error }

func (f failureError) Unwrap() error { return f.error }

// Run runs the command line and returns its exit code.
func Run(ctx context.Context, args []string, s Streams) int {
	root := Root(s) //nolint:contextcheck // to check a configuration is no I/O
	understood := false
	root.PersistentPreRun = func(*cobra.Command, []string) { understood = true }
	root.SetArgs(args)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, errFindings):
		return ExitFindings
	}
	text := err.Error()
	if understood {
		text = redacted(text, args)
	} else {
		text = withoutURLs(text, args)
	}
	_, _ = fmt.Fprintf(s.Err, "poolkeeper: %s\n", printable(text))
	if _, ok := errors.AsType[failureError](err); ok {
		return ExitFindings
	}
	_, _ = fmt.Fprintln(s.Err, `"poolkeeper help" lists the commands.`)
	return ExitUsage
}

// Root returns the root command.
func Root(s Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "poolkeeper",
		Short: "Examines the servers of connection pools, and shows running services",
		Long: `poolkeeper examines Redis, PostgreSQL, MySQL and MariaDB servers, shows services that use the Go
library of the same name, and checks the files that declare their connections. It changes nothing,
and never prints a password.

Exit codes: 0 nothing to change; 1 a server cannot be reached, a file has faults, or a setting
should change; 2 the command line is wrong.`,
		Version:      version(),
		SilenceUsage: true, SilenceErrors: true, DisableAutoGenTag: true,
	}
	root.AddCommand(doctorCommand(s), watchCommand(s), checkCommand(s), planCommand(s))
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = knownTopic
	}
	return root
}

// version returns the version of the module, as built.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
