package breaker_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

// Whatever happens to a server: it is down only after After without an answer, down and up take
// turns, it comes back once it answers, trials are bounded in number, and after Stop nothing happens.
func TestBreakerKeepsItsWordWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { breakerKeepsItsWord(t, rt) })
}

func FuzzBreakerKeepsItsWordWhateverHappens(f *testing.F) { fuzzing.Bubble(f, breakerKeepsItsWord) }

func breakerKeepsItsWord(t *testing.T, rt *rapid.T) {
	t.Helper()
	const after = 3 * time.Second
	type happening struct {
		What int
		For  time.Duration
	}
	script := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) happening {
		return happening{rapid.IntRange(0, 11).Draw(rt, "what"), time.Duration(rapid.IntRange(0, 6000).Draw(rt, "ms")) * time.Millisecond}
	}), 1, 40).Draw(rt, "script")
	downAtStop := rapid.Bool().Draw(rt, "down at Stop")
	fault := ""
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, after)
		s.answered = time.Now()
		tripped := false
		for i, h := range script {
			switch h.What {
			case 0, 1:
				s.become(errRefused)
			case 2, 3:
				s.become(errSilent)
			case 4:
				s.become(nil)
			case 5:
				s.b.Answer()
				s.set(func() { s.answered = time.Now() })
				tripped = false
			case 6, 7:
				s.b.Failed(monotime.Now(), errRefused)
			case 8:
				s.b.Slow(monotime.Now())
			case 9:
				s.b.Trip(monotime.Now(), errSilent)
				tripped = true
			case 10:
				s.set(func() { s.suspended = !s.suspended })
			case 11:
				s.b.Failed(monotime.Now(), context.Canceled)
			}
			time.Sleep(h.For)
			synctest.Wait()
			if fault = s.faults(tripped); fault != "" {
				fault = fmt.Sprintf("step %d, %+v: %s", i, h, fault)
				return
			}
		}
		s.become(nil)
		s.set(func() { s.suspended = false })
		time.Sleep(dialTimeout + 2*time.Second)
		synctest.Wait()
		if s.b.Down() != nil {
			fault = "it answers, and is still down"
		}
		s.become(errRefused)
		if downAtStop {
			s.b.Trip(monotime.Now(), errRefused)
		}
		_ = s.b.Stop(context.Background())
		s.b.Failed(monotime.Now(), errRefused)
		s.b.Trip(monotime.Now(), errRefused)
		trials, changes := s.seen()
		time.Sleep(time.Minute)
		if again, more := s.seen(); again > 0 || len(more) != len(changes) || s.b.Down() != nil {
			fault = fmt.Sprintf("after Stop: %d trials after %d, changes %v", again, trials, more)
		}
	})
	if fault != "" {
		rt.Fatal(fault)
	}
}

func (s *server) set(change func()) { s.mu.Lock(); defer s.mu.Unlock(); change() }

// faults names a promise that the breaker has broken so far. Empty: none.
func (s *server) faults(tripped bool) string {
	down := s.b.Down() != nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if down && !tripped && time.Since(s.answered) < 3*time.Second {
		return "down " + time.Since(s.answered).String() + " after an answer"
	}
	for i, c := range s.changes {
		if (c == "down") != (i%2 == 0) {
			return "down and up do not take turns"
		}
	}
	if told := len(s.changes)%2 == 1; told != down {
		return "what callers get and what was told differ"
	}
	if s.most > 3 {
		return "more than three trials at once"
	}
	if !slices.IsSortedFunc(s.trials, time.Time.Compare) {
		return "trials out of order"
	}
	if n := len(s.trials); n > 11 && s.trials[n-1].Sub(s.trials[n-12]) < time.Second {
		return "more than ten trials in a second"
	}
	return ""
}
