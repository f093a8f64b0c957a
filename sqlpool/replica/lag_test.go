package replica_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func after(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }

func TestLagIsMeasuredAgainstWhereThePrimaryWas(t *testing.T) {
	var p replica.History
	if _, ok := p.Lag(100); ok {
		t.Error("lag is known though nothing is known of the primary")
	}
	for s, lsn := range []uint64{100, 180, 180, 250} {
		p.Record(after(float64(s)), lsn, 10*time.Second)
	}
	for _, c := range []struct {
		lsn  uint64
		want time.Duration
	}{{250, 0}, {300, 0}, {249, time.Second}, {190, time.Second}, {180, time.Second}, {120, 3 * time.Second}} {
		if d, ok := p.Lag(c.lsn); d != c.want || !ok {
			t.Errorf("at %d: %s, want %s", c.lsn, d, c.want)
		}
	}
	if d, ok := p.Lag(50); d != 3*time.Second || ok {
		t.Errorf("%s, %v; want at least the 3 s since the primary was seen first", d, ok)
	}
	// A replica that replays nothing falls behind with time; one that is level with an idle primary
	// does not.
	p.Record(after(60), 250, 10*time.Second)
	if d, _ := p.Lag(180); d < 50*time.Second {
		t.Errorf("a replica that stands still is %s behind after a minute", d)
	}
	if d, _ := p.Lag(250); d != 0 {
		t.Errorf("behind an idle primary by %s", d)
	}
}

func TestLagIsAsOfTheLastPollOfThePrimary(t *testing.T) {
	var p replica.History
	p.Record(after(0), 100, time.Minute)
	p.Record(after(5), 200, time.Minute)
	if d, _ := p.Lag(150); d != 5*time.Second {
		t.Errorf("%s, want the 5 s it was behind when the primary was seen last", d)
	}
	if d, _ := p.Lag(200); d != 0 {
		t.Errorf("%s behind though it has everything there was", d)
	}
	p.Record(after(501), 50, time.Minute) // another primary, with a shorter past
	if d, _ := p.Lag(50); d != 0 || p.Len() != 1 {
		t.Errorf("%s behind the new primary, %d positions", d, p.Len())
	}
}

// The naive twin keeps everything.
func TestLagAgreesWithRememberingEverything(t *testing.T) {
	rapid.Check(t, lagAgrees)
}

func FuzzLagAgreesWithRememberingEverything(f *testing.F) { fuzzing.Property(f, lagAgrees) }

func lagAgrees(t *rapid.T) {
	var p replica.History
	keep := time.Duration(rapid.IntRange(1, 100).Draw(t, "keep")) * time.Second
	now, lsn := noon, uint64(1000)
	type seen struct {
		at  time.Time
		lsn uint64
	}
	var all []seen
	for range rapid.IntRange(1, 1000).Draw(t, "polls") {
		now = now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(t, "pause")) * time.Millisecond)
		lsn += uint64(rapid.IntRange(0, 3).Draw(t, "written")) //nolint:gosec // small
		p.Record(now, lsn, keep)
		all = append(all, seen{now, lsn})
	}
	replayed := lsn - min(lsn-999, uint64(rapid.IntRange(0, 50).Draw(t, "missing"))) //nolint:gosec // small
	exact, known := now.Sub(all[0].at), false
	for _, s := range all {
		if s.lsn <= replayed {
			exact, known = now.Sub(s.at), true
		}
	}
	got, ok := p.Lag(replayed)
	slack := keep/128 + 3*time.Second // what thinning out costs, and one pause
	switch {
	case ok && !known:
		t.Fatalf("%s is said to be known; it is before everything", got)
	case exact <= 2*keep && known && (!ok || got < exact || got > exact+slack):
		t.Fatalf("%s, %v; want %s", got, ok, exact)
	case !known && got > exact:
		t.Fatalf("at least %s; it is at least %s", got, exact)
	case exact > 2*keep && got <= keep:
		t.Fatalf("%s, which is fit under MaxLag %s; it is %s behind", got, keep, exact)
	case p.Len() > 3*256:
		t.Fatalf("%d positions are kept", p.Len())
	}
}
