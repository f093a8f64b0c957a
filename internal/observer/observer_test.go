package observer_test

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ear keeps what it hears.
type ear struct{ heard []error }

func (e *ear) Observe(err error) { e.heard = append(e.heard, err) }

func TestTheLastOneSetHears(t *testing.T) {
	var s observer.Slot
	down := errors.New("down on purpose")
	var first, second ear
	s.Observe(down) // no Observer is set
	s.Set(&first)
	s.Observe(nil)
	s.Set(&second)
	s.Observe(down)
	s.Set(nil)
	s.Observe(nil)
	if !slices.Equal(first.heard, []error{nil}) || !slices.Equal(second.heard, []error{down}) {
		t.Errorf("the first heard %v, the second %v", first.heard, second.heard)
	}
}

// hostile is an Observer that fails.
type hostile func()

func (h hostile) Observe(error) { h() }

func TestAnObserverThatPanicsIsReportedAndHarmsNobody(t *testing.T) {
	var got []error
	s := observer.Slot{OnPanic: func(err error) { got = append(got, err) }}
	s.Set(hostile(func() { panic("service") }))
	s.Observe(nil)
	s.Succeeded()
	s.Set(hostile(runtime.Goexit))
	s.Observe(nil)
	if len(got) != 3 {
		t.Fatalf("reported %v", got)
	}
	for _, err := range got[:2] {
		if p, ok := errors.AsType[*guard.Panic](err); !ok || !strings.Contains(p.Stack, "observer_test.go") {
			t.Errorf("no panic with its stack: %v", err)
		}
	}
	if !errors.Is(got[2], guard.ErrExited) {
		t.Errorf("of Goexit: %v", got[2])
	}
	silent := observer.Slot{}
	silent.Set(hostile(func() { panic("service") }))
	silent.Observe(nil)
}

func TestSuccessAllocatesNothing(t *testing.T) {
	var s observer.Slot
	s.Set(hostile(func() {}))
	if n := testing.AllocsPerRun(100, s.Succeeded); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
