package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/watch"
)

const watchLong = `watch shows the status page of a running service in the terminal: problems, pools, checks,
components, holders of connections, and the last events. URL is the address of the service's status
page (package statuspage). watch reads its JSON, status.json.

On a terminal watch redraws the screen every --interval until Ctrl-C, even if the service cannot be
reached. Elsewhere, or with --once, it prints one snapshot.

The exit code is 1 if the last snapshot shows a service that is not ready or cannot be reached.`

func watchCommand(s Streams) *cobra.Command {
	o := watch.Options{}
	var once bool
	var tokenFrom string
	c := &cobra.Command{
		Use:     "watch URL",
		Short:   "Shows the status page of a running service, refreshed in place",
		Long:    watchLong,
		Example: `  poolkeeper watch http://localhost:8081/status/`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if tokenFrom != "" {
				if o.Token = s.Getenv(tokenFrom); o.Token == "" {
					return errors.New("the environment variable given by --token-env is not set, or empty")
				}
			}
			w, err := watch.New(args[0], o)
			if err != nil {
				return err
			}
			defer w.Close()
			styles := term.StylesFor(s.Out, s.Getenv)
			show := w.Snapshot
			if !once && term.IsTerminal(s.Out) && s.Getenv("TERM") != "dumb" {
				show = w.Follow
			}
			ready, err := show(cmd.Context(), s.Out, styles)
			if err != nil {
				return failureError{err}
			}
			if !ready {
				return errFindings
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := c.Flags()
	f.DurationVar(&o.Interval, "interval", 2*time.Second, "time between two snapshots")
	f.DurationVar(&o.Timeout, "timeout", 5*time.Second, "time limit for each snapshot")
	f.BoolVar(&once, "once", false, "print one snapshot")
	f.StringVar(&o.CA, "tls-ca", "", "`file` of the authorities to trust")
	f.StringVar(&tokenFrom, "token-env", "", "`name` of an environment variable that holds a bearer token")
	return c
}
