package inflight_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/inflight"
)

func TestGroupWaitsForWorkThatBeginsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g inflight.Group
		if err := g.Wait(t.Context()); err != nil {
			t.Fatalf("nothing is under way, and Wait = %v", err)
		}
		g.Begin()
		g.Go(func() { time.Sleep(time.Second) })
		begun := time.Now()
		time.AfterFunc(500*time.Millisecond, func() { g.Go(func() { time.Sleep(2 * time.Second) }); g.End() })
		if err := g.Wait(t.Context()); err != nil || time.Since(begun) != 2500*time.Millisecond {
			t.Errorf("Wait = %v after %s", err, time.Since(begun))
		}
	})
}

func TestGroupWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g inflight.Group
		g.Begin()
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		if err := g.Wait(ctx); !errors.Is(err, why) {
			t.Errorf("Wait = %v", err)
		}
		g.End()
		if err := g.Wait(t.Context()); err != nil {
			t.Errorf("after the end: %v", err)
		}
	})
}
