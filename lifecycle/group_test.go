package lifecycle_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

func TestGoroutinesOfAGroupFinishBeforeWhatTheyUseIsClosed(t *testing.T) { // INV-1, INV-8
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		var mails lifecycle.Group
		db := &fake{}
		reg.Add("db", db)
		reg.Add("mails", &mails, lifecycle.WithDependencies("db"))
		if err := mails.Go(func(context.Context) {}); err == nil {
			t.Error("Go before Start was not refused")
		}
		mustStart(t, reg)
		var sent, cancelled atomic.Int32
		send := func(d time.Duration) {
			if err := mails.Go(func(ctx context.Context) {
				select {
				case <-time.After(d):
					sent.Add(1)
				case <-ctx.Done():
					cancelled.Add(1)
				}
				if db.Calls(event.PhaseStop) > 0 {
					t.Error("db was stopped under a goroutine that uses it")
				}
			}); err != nil {
				t.Error(err)
			}
		}
		send(time.Second)
		send(2 * time.Second) // finishes in its half of the time
		send(time.Hour)       // has to be cancelled
		defer after(500*time.Millisecond, func() {
			if err := mails.Go(func(context.Context) {}); !errors.Is(err, poolkeeper.ErrDraining) {
				t.Errorf("Go while draining = %v, want ErrDraining", err)
			}
		})()
		if err := reg.Shutdown(within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
		if sent.Load() != 2 || cancelled.Load() != 1 || db.Calls(event.PhaseStop) != 1 {
			t.Errorf("%d sent, %d cancelled; want 2 and 1", sent.Load(), cancelled.Load())
		}
	})
}

func TestGoroutineOfAGroupThatDoesNotEndIsNamed(t *testing.T) { // INV-2
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		var g lifecycle.Group
		reg.Add("mails", &g)
		mustStart(t, reg)
		release := make(chan struct{})
		_ = g.Go(func(context.Context) { stuckHere(release) })
		err := reg.Shutdown(within(t, 10*time.Second))
		ce := componentError(t, err, "mails")
		wantErr(t, ce, lifecycle.ErrStopTimeout)
		wantText(t, ce.Error(), "goroutines still running after they were cancelled: 1")
		close(release)
	})
}

func TestPanicInAGroupIsItsDeath(t *testing.T) {
	for name, fn := range map[string]func(context.Context){
		"panic": func(context.Context) { panic(errDied) },
		"exit":  func(context.Context) { runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			reg := lifecycle.New(quiet())
			var g lifecycle.Group
			reg.Add("mails", &g)
			mustStart(t, reg)
			for range 3 {
				_ = g.Go(fn)
			}
			<-reg.Done()
			err := reg.Shutdown(t.Context())
			if name == "exit" {
				wantErr(t, err, lifecycle.ErrGoexit)
			} else {
				wantErr(t, err, errDied)
			}
		})
	}
}

func TestGroupCanBeStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := lifecycle.New(quiet())
		var g lifecycle.Group
		reg.Add("mails", &g, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
		mustStart(t, reg)
		if err := g.Start(t.Context()); err == nil {
			t.Error("a second Start was not refused")
		}
		_ = g.Go(func(context.Context) { panic("ouch") })
		advance(10 * time.Second)
		done := false
		if err := g.Go(func(context.Context) { done = true }); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if err := reg.Shutdown(t.Context()); err != nil || !done {
			t.Errorf("done %v, %v", done, err)
		}
	})
}
