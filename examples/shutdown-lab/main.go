// Command shutdown-lab shows one shutdown in which everything goes wrong at once. One component
// hangs, one panics, one is slow, and one has leaked connections. The shutdown ends at its deadline
// all the same and closes the databases below. It then says what happened, in words for the
// operator on call.
//
//	go run ./examples/shutdown-lab                  # give up what hangs, close what it depends on
//	go run ./examples/shutdown-lab -on-hang hold    # keep open what a hung component depends on
//	go run ./examples/shutdown-lab -wait            # shut down at Ctrl-C; a second one cuts it short
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdout) //nolint:forbidigo // main has no context
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "shutdown-lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("shutdown-lab", flag.ContinueOnError)
	budget := flags.Duration("budget", 6*time.Second, "time for the whole shutdown")
	onHang := flags.String("on-hang", "abandon", "what becomes of the dependencies of what hangs: `abandon or hold`")
	wait := flags.Bool("wait", false, "wait for Ctrl-C instead of shutting down at once")
	if err := flags.Parse(args); err != nil {
		return err
	}
	policy, err := parsePolicy(*onHang)
	if err != nil {
		return err
	}
	if *budget <= 0 {
		return fmt.Errorf("-budget is %s; it must be positive", *budget)
	}

	reg := lifecycle.New(lifecycle.Config{
		ShutdownTimeout: *budget, DrainDelay: *budget / 12, OnHang: policy,
		Logger: slog.New(slog.DiscardHandler), // the narration below says it all
	})
	addLab(reg, *budget/100)
	began := time.Now()
	defer reg.Subscribe(func(e event.Event) { narrate(out, began, e) })()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if !*wait {
		stopWhenUp := func(e event.Event) {
			if _, up := e.(*event.AllUp); up {
				stop()
			}
		}
		defer reg.Subscribe(stopWhenUp)()
	}
	err = reg.Run(ctx)
	if report := reg.Status().Shutdown; report != nil {
		_, _ = fmt.Fprintf(out, "\n%s\n", report)
	}
	return labError(err, policy)
}

func parsePolicy(s string) (lifecycle.HangPolicy, error) {
	for _, p := range []lifecycle.HangPolicy{lifecycle.HangPolicyAbandon, lifecycle.HangPolicyHold} {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("-on-hang is %q; it must be abandon or hold", s)
}

// labError says whether the lab went as it should: the faults built into it are reported, and are
// no failure of ours.
func labError(err error, policy lifecycle.HangPolicy) error {
	switch {
	case errors.Is(err, lifecycle.ErrAborted):
		return err // a second signal: its sender wants a non-zero exit code
	case !errors.Is(err, lifecycle.ErrStopTimeout):
		return fmt.Errorf("the hung component was not reported: %w", err)
	case policy == lifecycle.HangPolicyHold && !errors.Is(err, lifecycle.ErrHeld):
		return fmt.Errorf("what was held open was not reported: %w", err)
	case policy == lifecycle.HangPolicyAbandon && !errors.Is(err, errLeak):
		return fmt.Errorf("the leak was not reported: %w", err)
	}
	if _, ok := errors.AsType[*lifecycle.PanicError](err); !ok {
		return fmt.Errorf("the panic was not reported: %w", err)
	}
	return nil
}

// narrate prints what happens when it happens.
func narrate(out io.Writer, began time.Time, e event.Event) {
	info := e.Details()
	switch e.(type) {
	case *event.AllUp, *event.ShuttingDown, *event.Draining, *event.Stopping, *event.Stopped,
		*event.Aborting, *event.Abandoned, *event.Holding, *event.Held, *event.AllDown,
		*event.SignalReceived:
		name := info.Name
		if name == "" {
			name = "-"
		}
		_, _ = fmt.Fprintf(out, "%6.2f s  %-9s %s\n", info.Time.Sub(began).Seconds(), name, e)
	}
}
