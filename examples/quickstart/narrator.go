package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// narrator tells a person at the terminal what the registry does.
type narrator struct {
	out         io.Writer
	opened      []opened
	api, probes func() net.Addr
}

func (n *narrator) tell(event lifecycle.Event) {
	info := event.Details()
	switch e := event.(type) {
	case *lifecycle.Started:
		n.line("up       %-14s %s", info.Name, ms(info.Elapsed))
	case *lifecycle.AllUp:
		n.welcome(info.Elapsed)
	case *lifecycle.ShuttingDown:
		n.line("\nshutting down: not ready from now on, serving for another %v, %v in all",
			e.Delay, e.Budget.Round(time.Millisecond))
	case *lifecycle.Stopped:
		outcome := "stopped "
		if info.Err != nil {
			outcome = "FAILED  "
		}
		n.line("%s %-14s %s", outcome, info.Name, ms(info.Elapsed))
	case *lifecycle.Abandoned:
		n.line("GAVE UP  %-14s %s", info.Name, ms(info.Elapsed))
	case *lifecycle.AllDown:
		n.line("all down in %s", ms(info.Elapsed))
	}
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

Then, with a request in flight, press Ctrl-C here:
  curl 'http://%[1]s/slow?for=5s'
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
