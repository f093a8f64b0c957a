package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// transitions is the table once more, in words and by hand.
var transitions = map[string][]string{
	"added":     {"starting", "stopping", "abandoned"},
	"starting":  {"up", "failed", "abandoned"},
	"up":        {"completed", "dead", "draining", "stopping", "abandoned"},
	"completed": {"draining", "stopping", "abandoned"},
	"dead":      {"draining", "stopping", "abandoned"},
	"draining":  {"stopping", "abandoned"},
	"stopping":  {"stopped", "abandoned"},
	"stopped":   {"starting"},
	"failed":    {"stopping", "abandoned"},
	"abandoned": {"stopped"},
}

func TestEveryPairOfStatesIsLegalOrNotAsTheTableSays(t *testing.T) {
	if len(transitions) != lifecycle.States {
		t.Fatalf("%d states in the table, %d in the package", len(transitions), lifecycle.States)
	}
	for from := range lifecycle.State(lifecycle.States + 1) { // one more: unknown states can become nothing
		for to := range lifecycle.State(lifecycle.States + 1) {
			want := slices.Contains(transitions[from.String()], to.String())
			if got := from.CanBecome(to); got != want {
				t.Errorf("%s to %s: %v, want %v", from, to, got, want)
			}
		}
	}
}

func TestEveryLegalTransitionHappens(t *testing.T) {
	seen := map[string]bool{}
	// sample steps through a scenario and notes every change of a component's state.
	sample := func(t *testing.T, cfg lifecycle.Config, add, play func(*lifecycle.Registry)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			reg := lifecycle.New(cfg)
			add(reg)
			last := map[string]lifecycle.State{}
			look := func() {
				for _, c := range reg.Status().Components {
					if was, ok := last[c.Name]; ok && was != c.State {
						if !was.CanBecome(c.State) {
							t.Errorf("%s went from %s to %s", c.Name, was, c.State)
						}
						seen[was.String()+" "+c.State.String()] = true
					}
					last[c.Name] = c.State
				}
			}
			look()
			over := make(chan struct{})
			go func() {
				defer close(over)
				play(reg)
			}()
			for done := false; !done; { // what lasts longer than this is seen
				advance(100 * time.Millisecond)
				look()
				select {
				case <-over:
					done = true
				default:
				}
			}
			look()
		})
	}
	slow := script{Delay: 1100 * time.Millisecond, Stubborn: true}
	second := func() { time.Sleep(1100 * time.Millisecond) }
	shutdown := func(reg *lifecycle.Registry) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = reg.Shutdown(ctx)
		second()
	}
	full := func() *fake { return &fake{OnStart: slow, OnDrain: slow, OnStop: slow} }

	// The ordinary life, with death, completion and restart.
	ignored, completed := full(), full()
	restarted := &fake{OnStart: slow, OnStop: script{Delay: 250 * time.Millisecond}} // back after half a second, at least
	deadPlain, completedPlain := &fake{OnStart: slow, OnStop: slow}, &fake{OnStart: slow, OnStop: slow}
	sample(t, quiet(), func(reg *lifecycle.Registry) {
		reg.Add("drains", full().As(drains))
		reg.Add("plain", &fake{OnStart: slow, OnStop: slow})
		reg.Add("dies", ignored.As(drains), lifecycle.WithDeathPolicy(lifecycle.DeathPolicyIgnore))
		reg.Add("dies plain", deadPlain, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyIgnore))
		reg.Add("completes", completed.As(drains))
		reg.Add("completes plain", completedPlain)
		reg.Add("comes back", restarted, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyRestart))
	}, func(reg *lifecycle.Registry) {
		_ = reg.Start(context.Background())
		second()
		ignored.Die(errDied)
		deadPlain.Die(errDied)
		completed.Die(nil)
		completedPlain.Die(nil)
		restarted.Die(errDied)
		time.Sleep(20 * time.Second)
		shutdown(reg)
	})
	// What was never started, or failed to, is aborted.
	sample(t, quiet(), func(reg *lifecycle.Registry) {
		reg.Add("fails", &fake{OnStart: script{Delay: 1100 * time.Millisecond, Fail: 1}, OnStop: slow})
		reg.Add("slow", &fake{OnStart: slow, OnStop: slow})
		reg.Add("never", &fake{OnStop: slow}, lifecycle.WithDependencies("fails", "slow"))
	}, func(reg *lifecycle.Registry) {
		_ = reg.Start(context.Background())
		second()
	})
	// What hangs is given up, and stopped when it comes back.
	inStart := &fake{OnStart: hangs()}
	inDrain, inStop := &fake{OnStart: slow, OnDrain: hangs()}, &fake{OnStart: slow, OnStop: hangs()}
	sample(t, quiet(), func(reg *lifecycle.Registry) {
		reg.Add("hangs in drain", inDrain.As(drains))
		reg.Add("hangs in stop", inStop)
	}, func(reg *lifecycle.Registry) {
		_ = reg.Start(context.Background())
		second()
		shutdown(reg)
		inDrain.Release()
		inStop.Release()
		second()
	})
	sample(t, quiet(), func(reg *lifecycle.Registry) {
		reg.Add("hangs in start", inStart)
	}, func(reg *lifecycle.Registry) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = reg.Start(ctx)
		second()
		inStart.Release()
		second()
	})
	// What is held, or whose turn never comes, is given up without having been asked.
	held := map[string]*fake{"up": {OnStart: slow}, "completed": {OnStart: slow}, "dead": {OnStart: slow}}
	holder, starter := &fake{OnStart: slow, OnStop: hangs()}, &fake{OnStart: script{Delay: 1100 * time.Millisecond, Fail: 1}}
	hold := quiet()
	hold.OnHang = lifecycle.HangPolicyHold
	sample(t, hold, func(reg *lifecycle.Registry) {
		for name, f := range held {
			reg.Add(name, f, lifecycle.WithDeathPolicy(lifecycle.DeathPolicyIgnore))
		}
		reg.Add("holder", holder, lifecycle.WithDependencies("up", "completed", "dead"))
	}, func(reg *lifecycle.Registry) {
		_ = reg.Start(context.Background())
		second()
		held["completed"].Die(nil)
		held["dead"].Die(errDied)
		second()
		shutdown(reg)
		holder.Release()
	})
	never := &fake{OnStop: hangs()}
	sample(t, hold, func(reg *lifecycle.Registry) {
		reg.Add("failed", starter)
		reg.Add("never started", &fake{}, lifecycle.WithDependencies("failed"))
		reg.Add("hangs", never, lifecycle.WithDependencies("never started"))
	}, func(reg *lifecycle.Registry) {
		err := reg.Start(context.Background())
		if !errors.Is(err, lifecycle.ErrHeld) {
			t.Errorf("Start: %v", err)
		}
		never.Release()
		second()
	})

	for from, tos := range transitions {
		for _, to := range tos {
			if pair := from + " " + to; !seen[pair] {
				t.Errorf("never seen: %s", fmt.Sprintf("%s → %s", from, to))
			}
		}
	}
}
