package breaker_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/breaker"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errRefused = errors.New("refused")
	errSilent  = errors.New("silent")
	errFull    = errors.New("full")
)

// server is what a breaker under test is about.
type server struct {
	t         *testing.T
	b         *breaker.Breaker
	mu        sync.Mutex
	is        error // what a trial meets; nil: it is up
	trials    []time.Time
	answered  time.Time // when it last answered a trial
	under     int
	most      int
	suspended bool
	alive     bool
	changes   []string
}

const dialTimeout = 5 * time.Second

func newServer(t *testing.T, after time.Duration) *server {
	t.Helper()
	s := &server{t: t}
	s.b = breaker.New(breaker.Config{
		After: func() time.Duration { return after }, Trial: s.trial, TrialTimeout: func() time.Duration { return dialTimeout },
		Judge: func(err error) breaker.Verdict {
			switch {
			case errors.Is(err, errRefused):
				return breaker.Refused
			case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errSilent):
				return breaker.Silent
			case errors.Is(err, context.Canceled):
				return breaker.Unknown
			}
			return breaker.Answered
		},
		Alive:     func(monotime.Time) bool { s.mu.Lock(); defer s.mu.Unlock(); return s.alive },
		Suspended: func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.suspended },
		Error: func(since time.Time, err error) *poolkeeper.DownError {
			return &poolkeeper.DownError{Pool: "p", Since: since, Err: err}
		},
		WentDown: func(*poolkeeper.DownError) { s.change("down") },
		CameUp:   func(d time.Duration) { s.change("up after " + d.Truncate(time.Second).String()) },
	})
	t.Cleanup(func() {
		if err := s.b.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *server) change(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, what)
}

func (s *server) trial(ctx context.Context) error {
	s.mu.Lock()
	s.trials = append(s.trials, time.Now())
	s.under++
	s.most = max(s.most, s.under)
	is := s.is
	if is == nil {
		s.answered = time.Now()
	}
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.under--; s.mu.Unlock() }()
	if errors.Is(is, errSilent) {
		<-ctx.Done()
		return ctx.Err()
	}
	return is
}

func (s *server) become(is error) { s.mu.Lock(); s.is = is; s.mu.Unlock() }

// seen returns the number of trials since it was asked last, and the changes.
func (s *server) seen() (trials int, changes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	trials, changes = len(s.trials), s.changes
	s.trials = nil
	return trials, changes
}

func (s *server) isDown(want bool) {
	s.t.Helper()
	synctest.Wait()
	if down := s.b.Down() != nil; down != want {
		s.t.Fatalf("down: %v, want %v", down, want)
	}
}

func TestRefusingServerIsDownAfterThatLongAndUpAtTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, 3*time.Second)
		s.become(errRefused)
		s.b.Failed(monotime.Now(), errRefused)
		time.Sleep(3*time.Second - time.Millisecond)
		s.isDown(false)
		time.Sleep(2 * time.Millisecond)
		s.isDown(true)
		s.seen()
		time.Sleep(10 * time.Second)
		if n, _ := s.seen(); n > 100 || n < 40 {
			t.Errorf("%d trials in 10 s, want 4 to 10 each second", n)
		}
		if err := s.b.Down(); !errors.Is(err, poolkeeper.ErrDown) || !errors.Is(err, errRefused) {
			t.Errorf("error of callers: %v", err)
		}
		s.become(nil)
		time.Sleep(250 * time.Millisecond)
		s.isDown(false)
		if _, c := s.seen(); len(c) != 2 || c[0] != "down" || c[1] != "up after 13s" {
			t.Errorf("changes: %v", c)
		}
		time.Sleep(time.Hour)
		if n, _ := s.seen(); n != 0 {
			t.Errorf("%d trials of a server that is up", n)
		}
	})
}

func TestSilentServerIsAskedOnceASecondByThreeAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, 3*time.Second)
		s.become(errSilent)
		s.b.Slow(monotime.Now())
		time.Sleep(4600 * time.Millisecond) // the trial begins half-way, and is given as long again as After
		s.isDown(true)
		s.seen()
		time.Sleep(10 * time.Second)
		if n, _ := s.seen(); n > 10 || n < 8 { // there is always a young one
			t.Errorf("%d trials in 10 s", n)
		}
		if s.most > 3 {
			t.Errorf("%d trials at once", s.most)
		}
		s.become(nil)
		time.Sleep(1100 * time.Millisecond)
		s.isDown(false)
	})
}

func TestAnAnswerEndsDoubtsAndOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, 3*time.Second)
		s.become(errRefused)
		for _, answer := range []func(){s.b.Answer, func() { s.b.Failed(monotime.Now(), errFull) }} {
			s.b.Failed(monotime.Now(), errRefused)
			time.Sleep(2 * time.Second)
			answer()
			time.Sleep(10 * time.Second)
			s.isDown(false)
			s.b.Failed(monotime.Now(), errRefused)
			time.Sleep(4 * time.Second)
			s.isDown(true)
			answer()
			s.isDown(false)
		}
		s.become(errFull) // what only a trial hears
		s.b.Failed(monotime.Now(), errRefused)
		time.Sleep(10 * time.Second)
		s.isDown(false)
	})
}

func TestPausedAndAnsweringPoolsAreNeverDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, 3*time.Second)
		s.become(errRefused)
		s.suspended = true
		s.b.Failed(monotime.Now(), errRefused)
		time.Sleep(time.Minute)
		s.isDown(false)
		s.mu.Lock()
		s.suspended, s.alive = false, true
		s.mu.Unlock()
		time.Sleep(time.Minute)
		s.isDown(false)
		if n, _ := s.seen(); n != 0 {
			t.Errorf("%d trials", n)
		}
	})
}

func TestTripIsDownAtOnceAlsoAmongDoubts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, doubted := range []bool{false, true} {
			s := newServer(t, time.Hour)
			s.become(errRefused)
			if doubted {
				s.b.Failed(monotime.Now(), errRefused)
				synctest.Wait()
			}
			s.b.Trip(monotime.Now(), errFull)
			s.isDown(false)
			s.b.Trip(monotime.Now(), errRefused)
			s.isDown(true)
			if err := s.b.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			s.isDown(false)
		}
	})
}

func TestOffNeverDoubts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, poolkeeper.Off)
		s.become(errRefused)
		s.b.Failed(monotime.Now(), errRefused)
		s.b.Trip(monotime.Now(), errRefused)
		time.Sleep(time.Hour)
		s.isDown(false)
	})
}

func TestBoundEndsWhenTheServerGoesDownAlsoAfterEarlierDoubts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, 3*time.Second)
		ctx, cancel := s.b.Bound(t.Context())
		defer cancel()
		s.b.Failed(monotime.Now(), errRefused)
		s.b.Answer()
		s.become(errRefused)
		s.b.Failed(monotime.Now(), errRefused)
		time.Sleep(4 * time.Second)
		s.isDown(true)
		if _, ok := errors.AsType[*poolkeeper.DownError](context.Cause(ctx)); !ok {
			t.Errorf("the cause is %v", context.Cause(ctx))
		}
		late, cancel := s.b.Bound(t.Context())
		defer cancel()
		synctest.Wait()
		if late.Err() == nil {
			t.Error("a context made while the server is down has not ended")
		}
		s.become(nil)
		time.Sleep(time.Second)
		after, cancel := s.b.Bound(t.Context())
		defer cancel()
		synctest.Wait()
		if after.Err() != nil {
			t.Error("a context made after the outage has ended")
		}
	})
}

func TestAPanickingTrialLeavesTheBreakerAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		b := breaker.New(breaker.Config{
			After: func() time.Duration { return time.Second }, TrialTimeout: func() time.Duration { return time.Second },
			Trial:    func(context.Context) error { calls++; panic("dialer") },
			Judge:    func(error) breaker.Verdict { return breaker.Refused },
			Error:    func(time.Time, error) *poolkeeper.DownError { return new(poolkeeper.DownError) },
			WentDown: func(*poolkeeper.DownError) {}, CameUp: func(time.Duration) {},
		})
		b.Failed(monotime.Now(), errRefused)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if b.Down() == nil || calls < 10 {
			t.Errorf("down: %v after %d trials", b.Down(), calls)
		}
		if err := b.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
