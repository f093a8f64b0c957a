package observer_test

import (
	"errors"
	"slices"
	"testing"

	"go.uber.org/goleak"

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
	s.Observe(down) // nobody
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
