package cli

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/poolkeeper/poolkeeper/config"
)

const checkLong = `check reads a file as package config does and prints every fault, with line and column. It dials
nothing. Without --environment it checks every environment of the file, or the file alone if it has
none.

Values by reference (env, file), certificates and credentials must be there, as for the service;
--offline does not read them, so that a file can be checked on a machine without its secrets.`

const planLong = `plan prints every change that the file NEW would make in place of OLD while the service runs, one on
each line, and says which need a restart. It dials nothing, and reads no secrets: it does not compare
values by reference, certificates and credentials.

The exit code is 1 if a file has faults, or a change needs a restart.`

func checkCommand(s Streams) *cobra.Command {
	var environment string
	var offline bool
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Validates a file of connections (package config)",
		Long:  checkLong,
		Example: `  poolkeeper check service.yaml
  poolkeeper check --offline --environment prod service.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var opts []config.Option
			if offline {
				opts = append(opts, config.Offline())
			}
			return check(s, args[0], environment, opts)
		},
	}
	c.Flags().StringVar(&environment, "environment", "", "`name` of the only environment to check")
	c.Flags().BoolVar(&offline, "offline", false, "read no references, certificates and credentials")
	return c
}

// check loads a file in each of its environments.
func check(s Streams, path, environment string, opts []config.Option) error {
	names := []string{environment}
	if environment == "" {
		all, err := config.Environments(path)
		if err != nil {
			return failureError{err}
		}
		if len(all) > 0 {
			names = all
		}
	}
	var errs []error
	for _, name := range names {
		where := path
		if name != "" {
			where += ", environment " + name
		}
		f, err := config.Load(path, append(opts, config.Environment(name))...)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s has faults:\n%w", where, err))
			continue
		}
		_, err = fmt.Fprintf(s.Out, "%s: ok\n", where)
		errs = append(errs, err, f.Abort())
	}
	if err := errors.Join(errs...); err != nil {
		return failureError{err}
	}
	return nil
}

func planCommand(s Streams) *cobra.Command {
	var environment string
	c := &cobra.Command{
		Use:     "plan OLD NEW",
		Short:   "Prints the effects of a change of a file of connections (package config)",
		Long:    planLong,
		Example: `  poolkeeper plan --environment prod service.yaml service.new.yaml`,
		Args:    cobra.ExactArgs(2),
		RunE:    func(_ *cobra.Command, args []string) error { return plan(s, args[0], args[1], environment) },
	}
	c.Flags().StringVar(&environment, "environment", "", "`name` of the environment")
	return c
}

// plan compares two files.
func plan(s Streams, from, to, environment string) error {
	opts := []config.Option{config.Offline(), config.Environment(environment)}
	old, oldErr := config.Load(from, opts...)
	next, nextErr := config.Load(to, opts...)
	for _, f := range []*config.File{old, next} {
		if f != nil {
			defer func() { _ = f.Abort() }() // nothing has been opened
		}
	}
	if err := errors.Join(oldErr, nextErr); err != nil {
		return failureError{err}
	}
	changes := old.Plan(next)
	restart := false
	for _, c := range changes {
		restart = restart || c.Restart != ""
		if _, err := fmt.Fprintln(s.Out, changeText(c)); err != nil {
			return failureError{err}
		}
	}
	if len(changes) == 0 {
		_, err := fmt.Fprintln(s.Out, "nothing changes")
		return err
	}
	if restart {
		return errFindings
	}
	return nil
}

// changeText is a change in one line.
func changeText(c config.Change) string {
	text := c.Key
	if c.From != "" || c.To != "" {
		text += fmt.Sprintf(": %s → %s", cmp.Or(c.From, "none"), cmp.Or(c.To, "none"))
	}
	if c.Restart != "" {
		text += " (needs a restart: " + c.Restart + ")"
	}
	return text
}
