package event_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
)

func TestSubscribersGetWhatTheLogGets(t *testing.T) {
	var b bytes.Buffer
	l := newLog(text(&b))
	var got poolkeeper.Event
	l.Subscribe(func(e poolkeeper.Event) { got = e })
	began := time.Now()
	h := poolkeeper.Holder{Kind: poolkeeper.KindTx, Since: began.Add(-time.Minute), Stack: "main.leak (main.go:98)"}
	e := event.OfLeak(h, began, time.Second)
	e.Err = io.EOF
	l.Emit(e)
	if got.Pool != "cache" || got.Kind != poolkeeper.EventLeak || got.Level != slog.LevelWarn || !errors.Is(got.Err, io.EOF) ||
		got.Cause != "refused" || got.Advice != "start it" || got.Holder == nil || *got.Holder != h || got.Time.Before(began) {
		t.Errorf("%+v", got)
	}
	for _, a := range event.Attrs(got) {
		if !strings.Contains(b.String(), a.Key+"=") {
			t.Errorf("the line has no %s: %s", a.Key, b.String())
		}
	}
	if want := fmt.Sprintf("%q: %s: EOF", "cache", e.Text); got.String() != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What the limit leaves out of the log is left out here too, and counted.
func TestSubscribersAreSparedRepeats(t *testing.T) {
	l := newLog(text(new(bytes.Buffer)))
	var n int
	l.Subscribe(func(poolkeeper.Event) { n++ })
	for range 100 {
		l.Emit(event.Event{Kind: event.Trouble, Text: "trouble"})
	}
	if n != 5 {
		t.Errorf("%d events of 100 of one kind, want 5", n)
	}
}

func TestHostileSubscribersDoOthersNoHarm(t *testing.T) {
	var b bytes.Buffer
	l := newLog(text(&b))
	var calls []string
	l.Subscribe(func(poolkeeper.Event) { calls = append(calls, "before") })
	l.Subscribe(func(poolkeeper.Event) { panic(errors.New("subscriber")) })
	l.Subscribe(func(poolkeeper.Event) { runtime.Goexit() })
	l.Subscribe(func(e poolkeeper.Event) { calls = append(calls, "after "+e.Text) })
	l.Emit(event.Event{Kind: event.Up, Text: "up"})
	if want := []string{"before", "after up"}; !slices.Equal(calls, want) {
		t.Errorf("called %q, want %q", calls, want)
	}
	if n := strings.Count(b.String(), `kind=panic function="a subscriber to the pool's events"`); n != 2 {
		t.Errorf("%d of 2 failures are in the log: %s", n, b.String())
	}
}

// A subscriber may cancel itself, and subscribe others, while it is called.
func TestSubscribersComeAndGoDuringEvents(t *testing.T) {
	l := newLog(text(new(bytes.Buffer)))
	var first, second atomic.Int64
	var cancel func()
	cancel = l.Subscribe(func(poolkeeper.Event) {
		first.Add(1)
		cancel()
		l.Subscribe(func(poolkeeper.Event) { second.Add(1) })
	})
	l.Emit(event.Event{Kind: event.Up, Text: "up"})
	l.Emit(event.Event{Kind: event.Down, Text: "down"})
	if first.Load() != 1 || second.Load() != 1 {
		t.Errorf("the first was called %d times and the second %d times, want once each", first.Load(), second.Load())
	}

	// Under the race detector: events, subscriptions and cancels at once.
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 200 {
				if i%2 == 0 {
					l.Emit(event.Event{Kind: event.Kind(fmt.Sprint(i, j%25)), Text: "event"})
					continue
				}
				stop := l.Subscribe(func(e poolkeeper.Event) { _ = e.String() })
				stop()
				stop()
			}
		})
	}
	all.Wait()
	var left int
	l.Subscribe(func(poolkeeper.Event) { left++ })
	l.Emit(event.Event{Kind: "last", Text: "last"})
	if left != 1 {
		t.Errorf("called %d times", left)
	}
}

func TestExpiryIsAWarningAndThenAnError(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		e    poolkeeper.Expiry
		want string
	}{
		{
			poolkeeper.Expiry{Kind: poolkeeper.ExpiryCA, Subject: "root", NotAfter: now.Add(48 * time.Hour)},
			`level=WARN msg="redispool: the authority of the server's certificate expires soon; renew it" pool=cache kind=expiry what=ca ` +
				`subject=root not_after=2026-12-02T12:00:00.000Z left=48h0m0s`,
		},
		{
			poolkeeper.Expiry{Kind: poolkeeper.ExpiryCredentials, NotAfter: now.Add(-time.Hour)},
			`level=ERROR msg="redispool: the password has expired: new connections fail; renew it" pool=cache kind=expiry what=credentials ` +
				`subject="" not_after=2026-11-30T11:00:00.000Z left=-1h0m0s`,
		},
	} {
		var b bytes.Buffer
		newLog(text(&b)).Emit(event.OfExpiry(c.e, now))
		if got := strings.TrimSpace(b.String()); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
