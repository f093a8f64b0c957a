package event_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/event"
)

func newLog(h slog.Handler) *event.Log {
	logger := slog.New(h)
	return event.NewLog("redispool", func() string { return "cache" }, func() *slog.Logger { return logger },
		func(error) (string, string) { return "refused", "start it" })
}

func text(b *bytes.Buffer) slog.Handler {
	return slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

func TestEmitWritesOneLineWithStableKeys(t *testing.T) {
	var b bytes.Buffer
	newLog(text(&b)).Emit(event.Event{
		Kind: event.Down, Level: slog.LevelWarn, Text: "the server is down", Err: io.EOF, Attrs: []slog.Attr{slog.Int("waiting", 3)},
	})
	want := `level=WARN msg="redispool: the server is down" pool=cache kind=down waiting=3 cause=refused advice="start it" error=EOF` + "\n"
	if b.String() != want {
		t.Errorf("got  %swant %s", b.String(), want)
	}
}

func TestRepeatsOfOneKindAreLimitedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := newLog(text(&b))
		for range 100 {
			l.Emit(event.Event{Kind: event.Leak, Text: "leak"})
		}
		l.Emit(event.Event{Kind: event.Reset, Text: "reset"})
		if n := strings.Count(b.String(), "kind=leak"); n != 5 {
			t.Errorf("%d lines of 100 of one kind, want 5", n)
		}
		if !strings.Contains(b.String(), "kind=reset") {
			t.Error("another kind was left out with it")
		}
		b.Reset()
		time.Sleep(time.Minute)
		l.Emit(event.Event{Kind: event.Leak, Text: "leak"})
		if !strings.Contains(b.String(), "skipped=95") {
			t.Errorf("the next line does not say how many were left out: %s", b.String())
		}
	})
}

// A server that breaks connections, comes back loading and then refuses writes is one incident.
func TestConnectionsReplacedAgainAreNoWarningOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := newLog(text(&b))
		for _, why := range []string{event.Broken, event.Demoted, event.Demoted} {
			l.Emit(event.OfReset(why, 7, nil))
			time.Sleep(30 * time.Second)
		}
		time.Sleep(time.Minute)
		l.Emit(event.OfReset(event.Broken, 7, nil))
		if warn, info := strings.Count(b.String(), "level=WARN"), strings.Count(b.String(), "level=INFO"); warn != 2 || info != 2 {
			t.Errorf("%d warnings and %d reminders, want 2 and 2:\n%s", warn, info, b.String())
		}
	})
}

type hostile func()

func (hostile) Enabled(context.Context, slog.Level) bool    { return true }
func (h hostile) Handle(context.Context, slog.Record) error { h(); return nil }
func (h hostile) WithAttrs([]slog.Attr) slog.Handler        { return h }
func (h hostile) WithGroup(string) slog.Handler             { return h }

func TestHostileHandlersDoNoHarm(t *testing.T) {
	for _, h := range []hostile{func() { panic(errors.New("handler")) }, runtime.Goexit} {
		newLog(h).Emit(event.Event{Kind: event.Up, Text: "up"}) // returns
	}
}
