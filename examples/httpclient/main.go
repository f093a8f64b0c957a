// Command httpclient shows what a managed HTTP client does for its caller: each stage of a request has
// a limit of its own and is named when it is over, a response that is left open is named by file and
// line and cut at Stop, and connections are reused.
//
//	go run ./examples/httpclient
//
// It brings its own servers. REDIS_URL and DATABASE_URL (PostgreSQL) add rows for Redis and SQL to the
// last table.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil { //nolint:forbidigo // main has no caller
		fmt.Fprintln(os.Stderr, "httpclient:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	s, err := newServers(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	return errors.Join(showStages(ctx, out, s), showLeak(ctx, out, s), showReuse(ctx, out, s))
}

// quick is a limit that shows soon.
const quick = 100 * time.Millisecond

// showStages requests from servers that stall at each stage in turn.
func showStages(ctx context.Context, out io.Writer, s *servers) error {
	_, _ = fmt.Fprintf(out, "Each stage has a limit of its own, here %s:\n\n", quick)
	for _, c := range []struct {
		stage string
		cfg   httpclient.Config
		url   string
	}{
		{"dial", httpclient.Config{DialTimeout: quick, DialContext: blackHole}, "http://192.0.2.1/"},
		{"TLS", httpclient.Config{TLSTimeout: quick}, s.mute},
		{"header", httpclient.Config{HeaderTimeout: quick}, s.plain + "/header"},
		{"body", httpclient.Config{BodyTimeout: quick}, s.plain + "/body"},
		{"whole request", httpclient.Config{RequestTimeout: quick}, s.plain + "/drip"},
	} {
		c.cfg.Name, c.cfg.Logger = "billing", slog.New(slog.DiscardHandler)
		client, err := httpclient.New(c.cfg)
		if err != nil {
			return err
		}
		begun := time.Now()
		err = fetch(ctx, client.HTTP(), c.url)
		_, _ = fmt.Fprintf(out, "  %-13s after %3d ms: %v\n", c.stage, time.Since(begun).Milliseconds(), errors.Unwrap(err))
		if err := client.Stop(ctx); err != nil {
			return err
		}
	}
	return nil
}

// showLeak leaves a response open.
func showLeak(ctx context.Context, out io.Writer, s *servers) error {
	_, _ = fmt.Fprintf(out, "\nA response that is never closed:\n\n")
	client, err := httpclient.New(httpclient.Config{
		Name: "billing", BodyTimeout: poolkeeper.Off, LeakThreshold: quick, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	events := make(chan poolkeeper.Event, 1)
	client.Subscribe(func(e poolkeeper.Event) { events <- e })
	if err = client.Start(ctx); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.plain+"/body", nil)
	if err != nil {
		return err
	}
	if _, err := client.HTTP().Do(req); err != nil { //nolint:bodyclose // this is the leak
		return err
	}
	e := <-events
	_, _ = fmt.Fprintf(out, "  event:   %s, %s\n", e, e.Holder.Describe(e.Time))
	for _, h := range client.Holders() {
		_, _ = fmt.Fprintf(out, "  Holders: %s\n", h.Describe(time.Now()))
	}
	stop, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	_, _ = fmt.Fprintf(out, "  Stop:    %v\n", client.Stop(stop))
	return nil
}
