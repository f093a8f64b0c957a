package eviction_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

// naiveChoice decides one connection at a time, and looks through all of them before each.
func naiveChoice(s eviction.Sweep, idle []eviction.Conn, needed int) (actions []eviction.Action, again bool) {
	actions = make([]eviction.Action, len(idle))
	count := func(of func(eviction.Action) bool) int {
		n := 0
		for _, a := range actions {
			if of(a) {
				n++
			}
		}
		return n
	}
	kept := func(a eviction.Action) bool { return !a.Closes() }
	// coldest is the first that is kept and has the property; -1: none.
	coldest := func(has func(eviction.Conn) bool) int {
		for i, c := range idle {
			if actions[i] == eviction.ActionKeep && has(c) {
				return i
			}
		}
		return -1
	}
	for i, c := range idle {
		life := s.MaxLifetime - time.Duration(float64(s.MaxLifetime)*s.LifetimeJitter*c.Draw)
		if c.Condemned {
			actions[i] = eviction.ActionCloseCondemned
		} else if s.MaxLifetime > 0 && s.Now.Sub(c.Born) >= life {
			actions[i] = eviction.ActionCloseExpired
		}
	}
	half := count(kept) / 2
	for count(eviction.Action.Closes) < s.Surplus && count(kept) > s.MinIdle+needed {
		i := coldest(func(eviction.Conn) bool { return true })
		if i < 0 {
			break
		}
		actions[i] = eviction.ActionCloseSurplus
	}
	for {
		i := coldest(func(c eviction.Conn) bool { return s.KeepAlive > 0 && !c.Mute && s.Now.Sub(c.Heard) >= s.KeepAlive })
		if i < 0 {
			return actions, false
		}
		pings := count(func(a eviction.Action) bool { return a == eviction.ActionPing })
		if pings >= 1 && (pings >= s.Batch || pings >= half) {
			return actions, true
		}
		actions[i] = eviction.ActionPing
	}
}

func drawConn(t *rapid.T) eviction.Conn {
	ago := func(name string) time.Time {
		return epoch.Add(-time.Duration(rapid.IntRange(0, 12).Draw(t, name)) * time.Second)
	}
	return eviction.Conn{
		Born: ago("born"), Heard: ago("heard"), Draw: float64(rapid.IntRange(0, 4).Draw(t, "draw")) / 5,
		Condemned: rapid.IntRange(0, 5).Draw(t, "condemned") == 0, Mute: rapid.IntRange(0, 5).Draw(t, "mute") == 0,
	}
}

func drawSweep(t *rapid.T) eviction.Sweep {
	seconds := func(name string) time.Duration {
		return time.Duration(rapid.IntRange(0, 10).Draw(t, name)) * time.Second
	}
	return eviction.Sweep{
		Now: epoch, Surplus: rapid.IntRange(0, 10).Draw(t, "surplus"), Batch: rapid.IntRange(1, 5).Draw(t, "batch"),
		MinIdle: rapid.IntRange(0, 4).Draw(t, "MinIdle"), KeepAlive: seconds("KeepAlive"), MaxLifetime: seconds("MaxLifetime"),
		LifetimeJitter: float64(rapid.IntRange(0, 4).Draw(t, "jitter")) / 4,
	}
}

func TestChoiceAgreesWithItsNaiveTwin(t *testing.T) {
	rapid.Check(t, choiceAgrees)
}

func FuzzChoiceAgreesWithItsNaiveTwin(f *testing.F) { fuzzing.Property(f, choiceAgrees) }

func choiceAgrees(t *rapid.T) {
	s, idle := drawSweep(t), rapid.SliceOfN(rapid.Custom(drawConn), 0, 12).Draw(t, "idle")
	needed := rapid.IntRange(0, 4).Draw(t, "needed")
	got, gotAgain := s.Choose(idle, needed)
	want, wantAgain := naiveChoice(s, idle, needed)
	if !slices.Equal(got, want) || gotAgain != wantAgain {
		t.Fatalf("%+v, needed %d:\n got %v %v\nwant %v %v", s, needed, got, gotAgain, want, wantAgain)
	}
}

// INV-7: no connection is closed for want of demand while MinIdle, or callers, need it; and a pass
// after another ends.
func TestChoiceKeepsMinIdleAndComesToAnEnd(t *testing.T) {
	rapid.Check(t, choiceKeepsMinIdle)
}

func FuzzChoiceKeepsMinIdleAndComesToAnEnd(f *testing.F) { fuzzing.Property(f, choiceKeepsMinIdle) }

func choiceKeepsMinIdle(t *rapid.T) {
	s, idle := drawSweep(t), rapid.SliceOfN(rapid.Custom(drawConn), 0, 12).Draw(t, "idle")
	needed := rapid.IntRange(0, 4).Draw(t, "needed")
	passes := 0
	for again := true; again; s.Surplus = 0 {
		if passes++; passes > 13 {
			t.Fatal("it never ends")
		}
		var actions []eviction.Action
		actions, again = s.Choose(idle, needed)
		var left []eviction.Conn
		surplus := 0
		for i, c := range idle {
			switch actions[i] {
			case eviction.ActionCloseSurplus:
				surplus++
			case eviction.ActionPing:
				c.Heard = s.Now
				left = append(left, c)
			case eviction.ActionKeep:
				left = append(left, c)
			case eviction.ActionCloseExpired, eviction.ActionCloseCondemned:
			}
		}
		if surplus > 0 && len(left) < s.MinIdle+needed {
			t.Fatalf("%d closed as surplus, %d left, MinIdle %d, needed %d", surplus, len(left), s.MinIdle, needed)
		}
		idle = left
	}
	for _, c := range idle {
		if s.Due(c) {
			t.Fatalf("%+v is left, and due", c)
		}
	}
}

// Next is the first moment at which Due says yes of a connection that has not expired.
func TestNextIsWhenAConnectionComesDue(t *testing.T) {
	rapid.Check(t, nextIsWhenDue)
}

func FuzzNextIsWhenAConnectionComesDue(f *testing.F) { fuzzing.Property(f, nextIsWhenDue) }

func nextIsWhenDue(t *rapid.T) {
	s, c := drawSweep(t), drawConn(t)
	c.Condemned = false
	next := s.Next([]eviction.Conn{c})
	if s.Due(c) {
		if s.KeepAlive > 0 && !s.Expired(c.Born, c.Draw) && next.After(s.Now) {
			t.Fatalf("due now, and Next is %v from now", next.Sub(s.Now))
		}
		return
	}
	if next.IsZero() {
		if s.Now = epoch.Add(time.Hour); s.Due(c) {
			t.Fatal("it comes due, and Next says never")
		}
		return
	}
	if s.Now = next.Add(-1); s.Due(c) {
		t.Fatal("due before Next")
	}
	if s.Now = next; !s.Due(c) {
		t.Fatal("not due at Next")
	}
}
