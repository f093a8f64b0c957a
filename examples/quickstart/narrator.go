package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// narrator tells a person at the terminal what the registry does.
type narrator struct {
	out         io.Writer
	opened      []opened
	api, probes func() net.Addr

	failed map[string]bool // components that did not come up, by name
}

func (n *narrator) tell(e event.Event) {
	info := e.Details()
	switch e := e.(type) {
	case *event.Started:
		n.line("up       %-14s %s", info.Name, ms(info.Elapsed))
	case *event.AllUp:
		n.welcome(info.Elapsed)
	case *event.Failed:
		n.notUp(info, e.Cancelled)
	case *event.ShuttingDown:
		n.goingDown(e)
	case *event.SignalReceived:
		if e.Second {
			n.line("\nsecond signal: cutting off %s", strings.Join(e.StillUp, ", "))
		}
	case *event.Stopped:
		n.stopped(info, e.Outcome)
	case *event.Abandoned:
		n.line("GAVE UP  %-14s %s", info.Name, ms(info.Elapsed))
	case *event.AllDown:
		n.line("all down in %s", ms(info.Elapsed))
	}
}

// notUp notes that a component has never been up: it is released later, not stopped.
func (n *narrator) notUp(info event.Info, cancelled bool) {
	if n.failed == nil {
		n.failed = map[string]bool{}
	}
	n.failed[info.Name] = true
	outcome := "FAILED  "
	if cancelled {
		outcome = "given up"
	}
	n.line("%s %-14s %s", outcome, info.Name, ms(info.Elapsed)) // why is in the log
}

func (n *narrator) goingDown(e *event.ShuttingDown) {
	budget := e.Budget.Round(time.Millisecond)
	if e.Delay <= 0 {
		n.line("\nshutting down within %v", budget)
		return
	}
	n.line("\nshutting down: not ready from now on, serving for another %v, %v in all", e.Delay, budget)
}

func (n *narrator) stopped(info event.Info, outcome event.Outcome) {
	word := "stopped"
	switch {
	case outcome != event.OutcomeOK:
		word = strings.ToUpper(outcome.String())
	case n.failed[info.Name]:
		word = "released"
	}
	n.line("%-8s %-14s %s", word, info.Name, ms(info.Elapsed))
}

func (n *narrator) welcome(took time.Duration) {
	n.line("\nready after %s. Opened:", ms(took))
	for _, o := range n.opened {
		n.line("  %-9s %s: %s", o.name, o.what, settings(o.settings))
	}
	api, probes := n.api(), n.probes()
	n.line(`
Try:
  curl -d url=https://go.dev http://%[1]s/links     # prints a short address
  curl -i http://%[1]s/THE-CODE                     # X-Cache: miss, then hit
  curl http://%[1]s/links/THE-CODE                  # how often it was followed
  curl -i http://%[2]s/readyz
  curl '%[2]s/readyz?verbose'
  curl http://%[2]s/metrics
  go tool pprof -top http://%[2]s/debug/pprof/heap

and look at http://%[2]s/status/ in a browser.

Then, with a request in flight, press Ctrl-C here. One of 5 s is finished; one of 40 s overruns the budget and is cut off:
  curl 'http://%[1]s/slow?for=5s'
  curl 'http://%[1]s/slow?for=40s'
`, api, probes)
}

func (n *narrator) line(format string, args ...any) {
	_, _ = fmt.Fprintf(n.out, format+"\n", args...)
}

// settings prints the effective settings that most people ask for; the pool has more.
func settings(attrs []slog.Attr) string {
	asked := []string{"addresses", "address", "database", "max_open", "min_idle", "max_idle_time", "max_lifetime", "acquire_timeout"}
	var parts []string
	for _, a := range attrs {
		if slices.Contains(asked, a.Key) {
			parts = append(parts, a.String())
		}
	}
	return strings.Join(parts, " ")
}

func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
