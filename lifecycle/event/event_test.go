package event_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plain is a logger that writes to standard output, without times.
func plain() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

func ExampleLog() {
	died := &event.Died{
		Info:   event.Info{Name: "consumer", Phase: event.PhaseRun, Elapsed: 90 * time.Second, Err: errors.New("lost its lease")},
		Policy: "restart",
	}
	fmt.Println(died)
	event.Log(context.Background(), plain(), died)
	// Output:
	// "consumer" died
	// level=ERROR msg="component died" component=consumer phase=run elapsed=1m30s policy=restart error="lost its lease"
}

func ExampleReport_String() {
	began := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	fmt.Print(&event.Report{
		Began: began, Took: 1500 * time.Millisecond,
		Steps: []event.Step{
			{Name: "api", Began: began, Took: time.Second, Drain: 900 * time.Millisecond, Outcome: event.OutcomeOK},
			{Name: "orders", Began: began.Add(time.Second), Took: 500 * time.Millisecond, Outcome: event.OutcomeFailed, Err: errors.New("no route to host")},
		},
		Critical: []string{"api", "orders"},
	})
	// Output:
	// 1 of 2 components ok, in 1.5s
	//
	//   api      ok       at +0s   for 1s, draining for 900ms
	//   orders   FAILED   at +1s   for 500ms
	//
	// orders: no route to host
	//
	// The time went into: api → orders
}
