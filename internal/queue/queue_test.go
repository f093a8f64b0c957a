package queue_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/queue"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestShortUseIsWhatOneInTenStaysBelow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	var u queue.ShortUse
	for _, scale := range []time.Duration{20 * time.Millisecond, 200 * time.Millisecond, time.Millisecond} { // it follows
		var all []time.Duration
		for range 5000 {
			d := time.Duration((0.5 + r.ExpFloat64()) * float64(scale))
			all = append(all, d)
			u.Record(d)
		}
		slices.Sort(all)
		if low, high := all[len(all)/100], all[len(all)*3/10]; u.Load() < low || u.Load() > high {
			t.Errorf("%v, want something between the 1st and the 30th percentile, %v and %v", u.Load(), low, high)
		}
	}
}

func TestQueuePassesByCallersThatCouldOnlyBreakAConnection(t *testing.T) {
	now := time.Now()
	var q queue.Queue[int]
	join := func(since, by time.Duration) *queue.Waiter[int] {
		ctx := context.Background()
		if by != 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, now.Add(by))
			t.Cleanup(cancel)
		}
		return q.Push(ctx, now.Add(since), nil)
	}
	const short = time.Minute
	late := join(-time.Hour, time.Second)
	young := join(-time.Second, 30*time.Second) // it has most of its time
	late2 := join(-time.Hour, 10*time.Second)
	endless := join(-time.Hour, 0)
	enough := join(-time.Hour, time.Hour)
	early := q.PushEarly()
	for _, want := range []*queue.Waiter[int]{early, young, endless, enough, nil} {
		if got := q.PopInTime(short); got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
	for _, w := range []*queue.Waiter[int]{late, late2} {
		if g := w.Result(); g.Err != queue.ErrTooLate { //nolint:errorlint // it is never wrapped
			t.Errorf("granted %+v", g)
		}
	}
	if q.Len() != 0 {
		t.Errorf("%d wait", q.Len())
	}
}

// The line agrees with a slice that is searched from its beginning.
func TestQueueAgreesWithASlice(t *testing.T) {
	rapid.Check(t, queueAgreesWithASlice)
}

func FuzzQueueAgreesWithASlice(f *testing.F) { fuzzing.Property(f, queueAgreesWithASlice) }

func queueAgreesWithASlice(t *rapid.T) {
	type waiter = *queue.Waiter[int]
	gone := errors.New("gone")
	var q queue.Queue[int]
	var line []waiter
	joined := map[waiter]uint64{}
	refused := func(w waiter) {
		if g := w.Result(); g.Err != gone { //nolint:errorlint // it is never wrapped
			t.Fatalf("granted %+v, want %v", g, gone)
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"push": func(*rapid.T) {
			w := q.Push(context.Background(), time.Now(), nil)
			line, joined[w] = append(line, w), q.Joined()
		},
		"push early": func(*rapid.T) {
			w := q.PushEarly()
			at := slices.IndexFunc(line, func(w waiter) bool { return !w.Early() })
			if at < 0 {
				at = len(line)
			}
			line, joined[w] = slices.Insert(line, at, w), q.Joined()
		},
		"pop": func(t *rapid.T) {
			if len(line) == 0 {
				t.Skip()
			}
			if w := q.Pop(); w != line[0] || w.Queued() {
				t.Fatalf("popped %p, want %p", w, line[0])
			}
			line = line[1:]
		},
		"remove": func(t *rapid.T) {
			if len(line) == 0 {
				t.Skip()
			}
			i := rapid.IntRange(0, len(line)-1).Draw(t, "i")
			if w := line[i]; !q.Remove(w) || q.Remove(w) {
				t.Fatal("removed once, want once")
			}
			line = slices.Delete(line, i, i+1)
		},
		"fail": func(t *rapid.T) {
			until := rapid.Uint64Range(0, q.Joined()).Draw(t, "until")
			q.Fail(until, gone)
			line = slices.DeleteFunc(line, func(w waiter) bool {
				if joined[w] <= until {
					refused(w)
					return true
				}
				return false
			})
		},
		"": func(t *rapid.T) {
			if q.Len() != len(line) || len(line) > 0 && q.First() != line[0] {
				t.Fatalf("%d wait, want %d", q.Len(), len(line))
			}
		},
	})
}
