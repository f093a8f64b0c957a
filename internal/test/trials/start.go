package trials

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

var errTrial = errors.New("trial: refused by the component")

// FailedStart lets a component in the middle fail to start.
//
//nolint:gochecknoglobals // a constant
var FailedStart = Trial{
	Name:  "FailedStart",
	Title: "failed start rolls back in reverse, error wraps cause",
	run: func(t *trial) {
		s := t.library()
		s.Add("db", t.quick("db"))
		s.Add("cache", t.quick("cache"), "db")
		bad := t.quick("api")
		bad.Start = func(context.Context) error { return errTrial }
		s.Add("api", bad, "cache")
		s.Add("web", t.quick("web"), "api")
		ctx, cancel := t.within(3)
		defer cancel()
		err := t.start(ctx, s)
		if !errors.Is(err, errTrial) {
			t.Errorf("the error of Start does not wrap the cause: %v", err)
		}
		t.before("-cache", "-db")
		t.closed("db", "cache", "web")
		if t.log.at("+web") >= 0 {
			t.Errorf("web was started although api was not up: %v", &t.log)
		}
	},
}

// StartHangs lets a component hang in Start, ignoring its context.
//
//nolint:gochecknoglobals // a constant
var StartHangs = Trial{
	Name:  "StartHangs",
	Title: "start hangs: returns at deadline, culprit named, rest closed",
	Timed: true,
	run: func(t *trial) {
		s := t.library()
		s.Add("db", t.quick("db"))
		bad := t.quick("tarpit")
		bad.Start = func(context.Context) error { t.hang(); return nil }
		s.Add("tarpit", bad, "db")
		ctx, cancel := t.within(3)
		defer cancel()
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- t.start(ctx, s) }()
		err, ok := t.await(done, 5)
		if !ok {
			t.Errorf("Start did not return")
			return
		}
		t.inTime("Start", began, 3)
		if err == nil {
			t.Errorf("Start has succeeded")
		} else if !strings.Contains(err.Error(), "tarpit") {
			t.Errorf("the error of Start does not name the culprit: %v", err)
		}
		t.closed("db")
	},
}

// await waits for a result for at most n units.
func (t *trial) await(done <-chan error, n int) (error, bool) {
	timer := time.NewTimer(time.Duration(n) * t.unit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err, true
	case <-timer.C:
		return nil, false
	}
}

// StopDuringStart stops everything while one component is starting.
//
//nolint:gochecknoglobals // a constant
var StopDuringStart = Trial{
	Name:  "StopDuringStart",
	Title: "stop during start",
	Timed: true,
	run: func(t *trial) {
		s := t.library()
		s.Add("db", t.quick("db"))
		starting := make(chan struct{})
		slow := t.quick("slow")
		slow.Start = func(ctx context.Context) error {
			close(starting)
			timer := time.NewTimer(t.unit)
			defer timer.Stop()
			select {
			case <-timer.C: // it comes up after all
				t.log.write("+", "slow")
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s.Add("slow", slow, "db")
		s.Add("web", t.quick("web"), "slow")
		ctx, cancel := t.within(6)
		defer cancel()
		var both sync.WaitGroup
		both.Go(func() { _ = t.start(ctx, s) })
		<-starting
		both.Go(func() {
			if err := t.stop(ctx, s); err != nil {
				t.Errorf("Stop: %v", err)
			}
		})
		both.Wait()
		t.closed("db", "slow", "web")
	},
}
