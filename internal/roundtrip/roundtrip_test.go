package roundtrip_test

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/roundtrip"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

func TestLimitFollowsTheRoundTrips(t *testing.T) {
	var p roundtrip.Patience
	if got := p.Limit(0); got != roundtrip.Shortest {
		t.Errorf("with nothing seen: %s, want %s", got, roundtrip.Shortest)
	}
	p.Saw(300 * time.Millisecond)
	if got := p.Limit(0); got != 1200*time.Millisecond {
		t.Errorf("on a link of 300 ms: %s, want 1.2s", got)
	}
	p.Saw(time.Hour)
	if got := p.Limit(0); got != roundtrip.Longest {
		t.Errorf("after an hour: %s, want %s", got, roundtrip.Longest)
	}
	for range 100 {
		p.Saw(time.Millisecond)
	}
	if got := p.Limit(0); got != roundtrip.Shortest {
		t.Errorf("when the link is fast again: %s, want %s", got, roundtrip.Shortest)
	}
	if got := p.Limit(time.Minute); got != time.Minute {
		t.Errorf("configured: %s, want 1m0s", got)
	}
}

func TestEachVerdictMakesTheNextOneWaitLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p roundtrip.Patience
		for _, want := range []time.Duration{time.Second / 2, time.Second, 2 * time.Second, 2 * time.Second} {
			p.Condemned()
			if got := p.Limit(0); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			time.Sleep(20 * time.Second)
		}
		time.Sleep(10 * time.Second)
		if got := p.Limit(0); got != roundtrip.Shortest {
			t.Errorf("30 s after the last one: %s, want %s", got, roundtrip.Shortest)
		}
		p.Condemned()
		if got := p.Limit(0); got != 2*roundtrip.Shortest {
			t.Errorf("another incident: %s, want %s", got, 2*roundtrip.Shortest)
		}
	})
}

func TestLimitStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, limitStaysWithinItsBounds)
}

func FuzzLimitStaysWithinItsBounds(f *testing.F) { fuzzing.Property(f, limitStaysWithinItsBounds) }

func limitStaysWithinItsBounds(t *rapid.T) {
	var p roundtrip.Patience
	for _, d := range rapid.SliceOf(rapid.Int64()).Draw(t, "seen") {
		p.Saw(time.Duration(d))
		if rapid.Bool().Draw(t, "condemned") {
			p.Condemned()
		}
		if got := p.Limit(0); got < roundtrip.Shortest || got > roundtrip.Longest {
			t.Fatalf("%s is not from %s to %s", got, roundtrip.Shortest, roundtrip.Longest)
		}
	}
}
