package trials

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// StopHangs lets the component at the top hang in Stop, ignoring its context.
//
//nolint:gochecknoglobals // a constant
var StopHangs = Trial{
	Name:  "StopHangs",
	Title: "stop hangs: returns at deadline, culprit named, its dependencies still closed",
	Timed: true,
	run: func(t *trial) {
		s := t.library()
		s.Add("db", t.quick("db"))
		s.Add("cache", t.quick("cache"), "db")
		bad := t.quick("tarpit")
		bad.Stop = func(context.Context) error { t.hang(); return nil }
		s.Add("tarpit", bad, "cache")
		s.Add("other", t.quick("other"))
		ctx, cancel := t.within(3)
		defer cancel()
		if err := t.start(ctx, s); err != nil {
			t.Errorf("Start: %v", err)
			return
		}
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- t.stop(ctx, s) }()
		err, ok := t.await(done, 5)
		if !ok {
			t.Errorf("Stop did not return")
			return
		}
		t.inTime("Stop", began, 3)
		if err == nil {
			t.Errorf("Stop has succeeded")
		} else if !strings.Contains(err.Error(), "tarpit") {
			t.Errorf("the error of Stop does not name the culprit: %v", err)
		}
		t.closed("db", "cache", "other")
		if again := t.stop(ctx, s); again == nil {
			t.Errorf("a second Stop reports success with tarpit still up")
		}
	},
}

// Panics lets components panic.
//
//nolint:gochecknoglobals // a constant
var Panics = Trial{
	Name:  "Panics",
	Title: "panic in start, in stop",
	run: func(t *trial) {
		panicInStart(t)
		t.log.reset()
		panicInStop(t)
	},
}

func panicInStart(t *trial) {
	s := t.library()
	s.Add("db", t.quick("db"))
	bad := t.quick("mine")
	bad.Start = func(context.Context) error { panic(errTrial) }
	s.Add("mine", bad, "db")
	ctx, cancel := t.within(3)
	defer cancel()
	err := t.start(ctx, s)
	if err == nil || !strings.Contains(err.Error(), "mine") || !errors.Is(err, errTrial) {
		t.Errorf("the error of Start does not name mine and wrap what it panicked with: %v", err)
	}
	t.closed("db")
}

func panicInStop(t *trial) {
	s := t.library()
	s.Add("db", t.quick("db"))
	bad := t.quick("mine")
	bad.Stop = func(context.Context) error { panic(errTrial) }
	s.Add("mine", bad, "db")
	ctx, cancel := t.within(3)
	defer cancel()
	if err := t.start(ctx, s); err != nil {
		t.Errorf("Start: %v", err)
	}
	err := t.stop(ctx, s)
	if err == nil || !strings.Contains(err.Error(), "mine") || !errors.Is(err, errTrial) {
		t.Errorf("the error of Stop does not name mine and wrap what it panicked with: %v", err)
	}
	t.closed("db")
}

// ConcurrentStops calls Stop a hundred times at once.
//
//nolint:gochecknoglobals // a constant
var ConcurrentStops = Trial{
	Name:  "ConcurrentStops",
	Title: "100 concurrent stops, all wait, same error",
	Timed: true,
	run: func(t *trial) {
		s := t.library()
		s.Add("db", t.quick("db"))
		slow := t.quick("slow")
		slow.Stop = func(context.Context) error {
			time.Sleep(t.unit) //nolint:forbidigo // a component that takes its time
			t.log.write("-", "slow")
			return errTrial
		}
		s.Add("slow", slow, "db")
		ctx, cancel := t.within(6)
		defer cancel()
		if err := t.start(ctx, s); err != nil {
			t.Errorf("Start: %v", err)
			return
		}
		const callers = 100
		var all sync.WaitGroup
		var errs [callers]error
		for i := range callers {
			all.Go(func() {
				errs[i] = t.stop(ctx, s)
				if t.log.at("-db") < 0 {
					t.Errorf("a Stop has returned before everything was down")
				}
			})
		}
		all.Wait()
		t.before("-slow", "-db")
		for _, err := range errs {
			if !errors.Is(err, errTrial) || err.Error() != errs[0].Error() {
				t.Errorf("callers got different errors: %v and %v", errs[0], err)
				return
			}
		}
	},
}

// StopErrors lets several components fail to stop.
//
//nolint:gochecknoglobals // a constant
var StopErrors = Trial{
	Name:  "StopErrors",
	Title: "every stop error joined, named, errors.Is works",
	run: func(t *trial) {
		s := t.library()
		names := []string{"alpha", "beta", "gamma"}
		causes := map[string]error{}
		var deps []string
		for _, name := range names {
			cause := fmt.Errorf("trial: cause %d", len(causes))
			causes[name] = cause
			c := t.quick(name)
			c.Stop = func(context.Context) error { t.log.write("-", name); return cause }
			s.Add(name, c, deps...)
			deps = []string{name}
		}
		ctx, cancel := t.within(3)
		defer cancel()
		if err := t.start(ctx, s); err != nil {
			t.Errorf("Start: %v", err)
			return
		}
		err := t.stop(ctx, s)
		t.closed(names...)
		for _, name := range names {
			if !errors.Is(err, causes[name]) {
				t.Errorf("errors.Is does not find the error of %s: %v", name, err)
			}
			if err != nil && !strings.Contains(err.Error(), name) {
				t.Errorf("the error does not name %s: %v", name, err)
			}
		}
	},
}

// Death lets a component die while everything is up. What depends on it must go down before what it
// depends on, without a call of Stop, and the error says why.
//
//nolint:gochecknoglobals // a constant
var Death = Trial{
	Name:  "Death",
	Title: "a component that dies takes the right ones down",
	Timed: true,
	run: func(t *trial) {
		s := t.library()
		died := make(chan error, 1)
		s.Add("db", t.quick("db"))
		mortal := t.quick("mortal")
		mortal.Died = died
		s.Add("mortal", mortal, "db")
		s.Add("web", t.quick("web"), "mortal")
		ctx, cancel := t.within(6)
		defer cancel()
		if err := t.start(ctx, s); err != nil {
			t.Errorf("Start: %v", err)
			return
		}
		died <- errTrial
		deadline := time.Now().Add(3 * t.unit)
		for t.log.at("-db") < 0 && time.Now().Before(deadline) {
			time.Sleep(t.unit / 50) //nolint:forbidigo // a poll, in a bubble or short
		}
		t.closed("web", "db")
		t.before("-web", "-db")
		if err := t.stop(ctx, s); !errors.Is(err, errTrial) {
			t.Errorf("the error of Stop does not wrap what the component died of: %v", err)
		}
	},
}
