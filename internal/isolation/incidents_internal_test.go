package isolation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

// incident is a run of a group, polled each second, told as its changes.
type incident struct {
	g     *Group[string]
	now   time.Time
	begun time.Time
	names []string
	down  map[string]bool
	told  []string
}

func newIncident(cfg poolkeeper.Isolation, names ...string) *incident {
	in := &incident{g: New[string](cfg, time.Second), now: time.Now(), names: names, down: map[string]bool{}}
	in.g.draw = func() float64 { return 0 }
	in.begun = in.now
	return in
}

// run lets seconds pass in which each server answers as of says.
func (in *incident) run(seconds int, of func(name string) Sample) {
	for range seconds {
		in.now = in.now.Add(time.Second)
		var all []Member[string]
		for _, n := range in.names {
			if !in.down[n] {
				in.g.Observe(n, in.now, of(n))
			}
			all = append(all, Member[string]{Key: n, Fit: !in.down[n]})
		}
		for _, c := range in.g.Judge(in.now, all) {
			in.told = append(in.told, fmt.Sprintf("%d %s %s", int(in.now.Sub(in.begun).Seconds()), c.Key, c.To))
		}
	}
}

func (in *incident) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(in.told, want) {
		t.Errorf("told %q, want %q", in.told, want)
	}
	in.told = nil
}

func poll(d time.Duration) Sample { return Sample{Poll: d, Requests: 1} }

func well(string) Sample { return poll(2 * time.Millisecond) }

// bad says that some servers answer with s, and the others well.
func bad(s Sample, names ...string) func(string) Sample {
	return func(name string) Sample {
		if slices.Contains(names, name) {
			return s
		}
		return well(name)
	}
}

var slow = poll(60 * time.Millisecond)

func TestOffJudgesNothingAndKeepsTheRotation(t *testing.T) {
	in := newIncident(poolkeeper.Isolation{}, "a", "b")
	in.run(100, bad(slow, "a"))
	in.expect(t)
	may := []string{"a", "b"}
	if got := in.g.Rotation(may); &got[0] != &may[0] || len(got) != 2 || len(in.g.members) != 0 {
		t.Errorf("rotation %v, %d servers known", got, len(in.g.members))
	}
}

func TestASlowServerIsIsolatedTriedAndComesBack(t *testing.T) {
	in := newIncident(poolkeeper.Isolation{MinScore: 75}, "a", "b")
	in.run(20, well)
	in.run(25, bad(slow, "a")) // the median of 5 s is slow after 4 s
	in.expect(t, "34 a isolated")
	if s := in.g.Standing("a"); s.Score != 60 || s.Why != "score 60, MinScore is 75: checks take 60ms and those of the others 2ms" {
		t.Errorf("%+v", s)
	}
	if got := in.g.Rotation([]string{"a", "b"}); !slices.Equal(got, []string{"b"}) {
		t.Errorf("rotation %v", got)
	}
	in.run(60, bad(slow, "a")) // at 64 s its polls are still slow
	in.expect(t)
	in.run(60, well)
	in.expect(t, "124 a trial", "134 a serving")
	if s := in.g.Standing("a"); s.Why != "" || !s.NextTrial.IsZero() || s.Score != 100 {
		t.Errorf("%+v", s)
	}
}

// What is bad for less than half of After isolates nothing, whatever it is.
func TestAShortHiccupIsolatesNothing(t *testing.T) {
	rapid.Check(t, aShortHiccupIsolatesNothing)
}

func FuzzAShortHiccupIsolatesNothing(f *testing.F) { fuzzing.Property(f, aShortHiccupIsolatesNothing) }

func aShortHiccupIsolatesNothing(t *rapid.T) {
	in := newIncident(poolkeeper.Isolation{MinScore: rapid.IntRange(1, 100).Draw(t, "MinScore")}, "a", "b")
	for range 5 {
		in.run(rapid.IntRange(0, 4).Draw(t, "hiccup"), func(name string) Sample {
			if name == "a" {
				return drawSample(t, true)
			}
			return well(name)
		})
		in.run(rapid.IntRange(7, 20).Draw(t, "quiet"), well)
	}
	if in.told != nil {
		t.Fatalf("%q", in.told)
	}
}

func TestWhatLastsIsIsolatedOnce(t *testing.T) {
	for name, trouble := range map[string]Sample{
		"slow": poll(time.Minute), "failing": {Poll: time.Millisecond, Requests: 100, Failures: 100},
		"full": {Poll: time.Millisecond, Requests: 1, Saturation: 1},
	} {
		in := newIncident(poolkeeper.Isolation{MinScore: 75}, "a", "b")
		in.run(20, well)
		in.run(16, bad(trouble, "a"))
		if len(in.told) != 1 || !strings.HasSuffix(in.told[0], "a isolated") {
			t.Errorf("%s for 16 s: %q", name, in.told)
		}
	}
}

// A poll that takes long comes seldom.
func TestAServerThatHardlyAnswersIsIsolated(t *testing.T) {
	in := newIncident(poolkeeper.Isolation{MinScore: 75}, "a", "b")
	in.run(60, func(name string) Sample {
		switch {
		case name == "b":
			return well(name)
		case int(in.now.Sub(in.begun).Seconds())%3 == 0:
			return poll(2 * time.Second)
		}
		return Sample{}
	})
	if len(in.told) != 1 || !strings.HasSuffix(in.told[0], "a isolated") {
		t.Errorf("%q", in.told)
	}
}

func TestEachPartAloneIsolatesBelow75(t *testing.T) {
	for why, s := range map[string]Sample{
		"checks take 60ms and those of the others 2ms":     slow,
		"requests take 100ms and those of the others 10ms": {Poll: 2 * time.Millisecond, Requests: 50, Latency: 100 * time.Millisecond},
		"80% of the requests fail":                         {Poll: 2 * time.Millisecond, Requests: 10, Failures: 8},
		"95% of its connections are in use":                {Poll: 2 * time.Millisecond, Requests: 1, Saturation: 0.95},
	} {
		in := newIncident(poolkeeper.Isolation{MinScore: 75}, "a", "b", "c")
		in.run(30, func(name string) Sample {
			if name == "b" {
				return s
			}
			return Sample{Poll: 2 * time.Millisecond, Requests: 50, Latency: 10 * time.Millisecond}
		})
		if st := in.g.Standing("b"); st.State != Isolated || !strings.HasSuffix(st.Why, ": "+why) {
			t.Errorf("%+v, want %s", st, why)
		}
	}
}

func TestServersThatAreAllBadAllServe(t *testing.T) {
	in := newIncident(poolkeeper.Isolation{MinScore: 75, SlowLatency: 50 * time.Millisecond}, "a", "b")
	in.run(100, bad(slow, "a", "b"))
	in.expect(t)
	if s := in.g.Standing("a").Score; s != 60 {
		t.Errorf("score %d", s)
	}
}

func TestOfServersThatAreAllBadTheBestKeepServing(t *testing.T) {
	in := newIncident(poolkeeper.Isolation{MinScore: 75}, "a", "b")
	in.run(30, func(name string) Sample {
		return Sample{Poll: 1, Requests: 10, Failures: map[string]uint64{"a": 10, "b": 4}[name], Saturation: 1} // 40 and 46
	})
	in.expect(t)
	in.run(30, func(name string) Sample {
		return Sample{Poll: 1, Requests: 10, Failures: map[string]uint64{"a": 10, "b": 3}[name], Saturation: 1} // 40 and 52
	})
	if len(in.told) != 1 || !strings.HasSuffix(in.told[0], "a isolated") {
		t.Errorf("%q", in.told)
	}
}

// A server that is known to be slow is better than none.
func TestAnIsolatedServerStandsInWhileNoOtherCanServe(t *testing.T) { // INV-16
	in := newIncident(poolkeeper.Isolation{MinScore: 75}, "a", "b")
	in.run(30, bad(slow, "a"))
	in.expect(t, "13 a isolated")
	in.down["b"] = true
	in.run(3, bad(slow, "a"))
	if got := in.g.Rotation([]string{"a"}); !slices.Equal(got, []string{"a"}) {
		t.Errorf("rotation %v", got)
	}
	in.down["b"] = false
	in.run(3, bad(slow, "a"))
	if got := in.g.Rotation([]string{"a", "b"}); !slices.Equal(got, []string{"b"}) {
		t.Errorf("rotation %v", got)
	}
	in.expect(t)
}

func TestMinServingServersStay(t *testing.T) {
	in := newIncident(poolkeeper.Isolation{MinScore: 75, MinServing: 3}, "a", "b", "c", "d", "e")
	full := Sample{Poll: 1, Requests: 1, Saturation: 1}
	in.run(60, bad(full, "a", "b", "c"))
	if n := len(in.g.Rotation(in.names)); n != 5 {
		t.Errorf("%d serve, while only 2 are better than the others: %q", n, in.told)
	}
	in = newIncident(poolkeeper.Isolation{MinScore: 75, MinServing: 2}, "a", "b", "c", "d", "e")
	in.run(25, bad(full, "a", "b", "c"))
	if n := len(in.g.Rotation(in.names)); n != 2 {
		t.Errorf("%d serve, want 2: %q", n, in.told)
	}
}

// With its polls alone a server looks well, and its traffic shows again and again that it is not.
func TestTrialsThatFailComeFurtherApart(t *testing.T) {
	in := newIncident(poolkeeper.Isolation{MinScore: 75, After: 5 * time.Second, Retry: 10 * time.Second, MaxRetry: 40 * time.Second}, "a", "b")
	in.run(250, func(name string) Sample {
		if name == "a" && in.g.Standing(name).State != Isolated {
			return Sample{Poll: time.Millisecond, Requests: 10, Failures: 10}
		}
		return well(name)
	})
	in.expect(t, "8 a isolated", "18 a trial", "19 a isolated", "39 a trial", "40 a isolated", "80 a trial", "81 a isolated",
		"121 a trial", "122 a isolated", "162 a trial", "163 a isolated", "203 a trial", "204 a isolated", "244 a trial", "245 a isolated")
}

// While all that serve do badly, an isolated server is tried after Retry, however often it has failed.
func TestAServerIsTriedSoonerWhileTheOthersDoBadly(t *testing.T) {
	in := newIncident(poolkeeper.Isolation{MinScore: 75, Retry: 20 * time.Second, MaxRetry: time.Hour}, "a", "b")
	fails := func(name string) Sample {
		if name == "a" && in.g.Standing(name).State != Isolated {
			return Sample{Poll: time.Millisecond, Requests: 10, Failures: 10}
		}
		return well(name)
	}
	in.run(90, fails) // isolated for 80 s
	in.told = nil
	in.run(60, func(name string) Sample {
		if name == "b" {
			return Sample{Poll: time.Millisecond, Requests: 10, Saturation: 1, Failures: 4}
		}
		return well(name)
	})
	if len(in.told) < 2 || !strings.HasSuffix(in.told[0], "a trial") || !strings.HasSuffix(in.told[1], "a serving") {
		t.Errorf("%q", in.told)
	}
}

func TestAServerWithoutTrafficIsNotJudgedByOldNumbers(t *testing.T) {
	in := newIncident(poolkeeper.Isolation{MinScore: 75}, "a", "b")
	failing := Sample{Requests: 100, Failures: 100}
	in.run(8, bad(failing, "a"))
	if s := in.g.Standing("a"); s.Score != 70 {
		t.Errorf("%+v", s)
	}
	in.run(11, func(string) Sample { return Sample{} }) // the service is idle, and there are no polls
	if s := in.g.Standing("a"); s.HasScore || s.State != Serving {
		t.Errorf("%+v", s)
	}
	in.run(5, bad(failing, "a"))
	in.down["a"] = true // it restarts
	in.run(1, well)
	in.down["a"] = false
	in.run(3, well)
	if s := in.g.Standing("a"); s.HasScore {
		t.Errorf("what was before the restart counts: %+v", s)
	}
	in.run(30, well)
	in.expect(t)
}

func TestPinnedServersAreNeverIsolated(t *testing.T) {
	in := newIncident(poolkeeper.Isolation{MinScore: 75})
	for range 40 {
		in.now = in.now.Add(time.Second)
		in.g.Observe("master", in.now, slow)
		in.g.Observe("replica", in.now, well(""))
		if c := in.g.Judge(in.now, []Member[string]{{"master", true, true}, {"replica", true, false}}); c != nil {
			t.Errorf("%+v", c)
		}
	}
	if s := in.g.Standing("master").Score; s != 60 {
		t.Errorf("score %d", s)
	}
}

func TestTrialsShareNoMoreThanTheirPart(t *testing.T) {
	for _, c := range []struct {
		serving, trials int
		share           float64
		want            int
	}{
		{1, 1, 0.05, 20}, {2, 1, 0.05, 21}, {3, 2, 0.05, 20}, {1, 1, 1, 2}, {1, 0, 0.05, 1}, {0, 2, 0.05, 2}, {1, 1, 0.01, 100},
	} {
		got := spread(make([]int, c.serving), slices.Repeat([]int{1}, c.trials), c.share)
		on := 0
		for _, x := range got {
			on += x
		}
		if len(got) != c.want || on != c.trials {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestChangesAreToldInWords(t *testing.T) {
	now := time.Now()
	s := Standing{State: Isolated, Since: now, Score: 60, HasScore: true, Why: "score 60", NextTrial: now.Add(30 * time.Second)}
	for want, c := range map[string]Change[int]{
		"this server is isolated: the others serve better":             {0, Serving, Isolated, s},
		"this server is isolated again: its trial failed":              {0, Trial, Isolated, s},
		"this server is on trial: it gets a part of the traffic again": {0, Isolated, Trial, s},
		"this server serves well again, and is back in rotation":       {0, Trial, Serving, s},
	} {
		e := c.Event()
		if e.Text != want || (c.To == Isolated) != (e.Err != nil) || e.Attrs[2].String() != "score=60" {
			t.Errorf("%+v", e)
		}
	}
}
