package lifecycle_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

func TestPlanTellsWhatCanChangeFromWhatNeedsARestart(t *testing.T) {
	reg := lifecycle.New(quiet())
	next := lifecycle.Config{DrainDelay: 3 * time.Second, OnHang: lifecycle.HangPolicyHold, StartTimeout: time.Second}
	next.Health.Interval = 5 * time.Second
	now, restart, err := reg.Plan(next)
	if err != nil {
		t.Fatal(err)
	}
	fields := func(changes []poolkeeper.Change) (out []string) {
		for _, c := range changes {
			out = append(out, c.Field+" "+c.From+" "+c.To)
		}
		return out
	}
	equal(t, fields(now), "DrainDelay 0s 3s", "OnHang abandon hold")
	equal(t, fields(restart), "StartTimeout 0s 1s", "Health.Interval 0s 5s")
	if _, _, err := reg.Plan(lifecycle.Config{DrainDelay: -1}); err == nil {
		t.Error("a fault is accepted")
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
}

// The shutdown to come has the limits of the Reload.
func TestReloadChangesTheShutdownToCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.ShutdownTimeout, cfg.DrainDelay = 20*time.Second, 8*time.Second
		reg := lifecycle.New(cfg)
		reg.Add("hung", lifecycle.Hooks{OnStop: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
		if err := reg.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		cfg.ShutdownTimeout, cfg.DrainDelay = 4*time.Second, time.Second
		if err := reg.Reload(lifecycle.Config{ShutdownTimeout: -1}); err == nil {
			t.Error("a fault is accepted")
		}
		if err := reg.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := reg.Shutdown(t.Context()); err == nil {
			t.Error("a component that hangs was not named")
		}
		if took := time.Since(began); took > 4*time.Second || took < time.Second {
			t.Errorf("the shutdown took %s; 4 s are its limit now", took)
		}
		if err := reg.Reload(cfg); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("a Reload after the shutdown: %v", err)
		}
	})
}
