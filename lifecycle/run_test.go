package lifecycle_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// noSignals is for bubbles, which signals come from outside of.
var noSignals = []os.Signal{}

func TestRunReturnsNilWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reg := lifecycle.New(quiet())
	reg.Go("loop", func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	if err := reg.Run(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reg.Done():
	default:
		t.Fatal("Done is not closed")
	}
}

func TestRunReturnsWhatWentWrong(t *testing.T) {
	for name, c := range map[string]struct {
		f    *fake
		die  bool
		want error
	}{
		"in start": {&fake{OnStart: script{Fail: 1, Err: errDied}}, false, errDied},
		"in stop":  {&fake{OnStop: script{Fail: 1, Err: errDied}}, false, errDied},
		"by death": {&fake{}, true, errDied},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := quiet()
				cfg.Signals = noSignals
				reg := lifecycle.New(cfg)
				reg.Add("a", c.f)
				ctx, cancel := context.WithCancel(t.Context())
				defer after(time.Second, func() {
					if c.die {
						c.f.Die(errDied)
					} else {
						cancel()
					}
				})()
				wantErr(t, reg.Run(ctx), c.want)
				cancel()
			})
		})
	}
}

func TestRunEndsWhenSomebodyElseShutsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := quiet()
		cfg.Signals = noSignals
		reg := lifecycle.New(cfg)
		reg.Add("a", &fake{})
		var runErr error
		wait := after(0, func() { runErr = reg.Run(t.Context()) })
		advance(time.Second)
		if err := reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		wait()
		if runErr != nil {
			t.Errorf("Run = %v", runErr)
		}
	})
}

func TestRunOfAFaultyRegistryReturnsTheFaults(t *testing.T) {
	reg := lifecycle.New(quiet())
	reg.Add("a", &fake{}, lifecycle.WithDependencies("b"))
	err := reg.Run(t.Context())
	if _, ok := errors.AsType[*lifecycle.MissingDependencyError](err); !ok {
		t.Errorf("Run = %v", err)
	}
}
