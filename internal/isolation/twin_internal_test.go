package isolation

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper"
)

// twin is Group, told as plainly as can be: it keeps everything it has ever seen, and goes through
// all of it each time.
type twin struct {
	cfg     poolkeeper.Isolation
	draw    float64
	servers []*twinServer
}

type twinServer struct {
	samples  []stamped // all there ever were
	void     int       // as many of these do not count any more
	verdicts []verdict // all there ever were, of each Judge
	state    State
	since    time.Time
	fit      bool
	pinned   bool
	score    int // -1: not known
	failures int
	due      time.Time
	early    time.Time
}

type verdict struct {
	at    time.Time
	worse bool
}

func newTwin(cfg poolkeeper.Isolation, draw float64, n int, now time.Time) *twin {
	t := &twin{cfg: cfg, draw: draw}
	for range n {
		t.servers = append(t.servers, &twinServer{state: Serving, since: now, fit: true, score: -1})
	}
	return t
}

func (t *twin) counted(s *twinServer, now time.Time) []stamped {
	var out []stamped
	all := s.samples[max(s.void, len(s.samples)-256):]
	for i, x := range all {
		later := 0 // samples with a request
		for _, y := range all[i+1:] {
			if y.Requests > 0 {
				later++
			}
		}
		if age := now.Sub(x.at); age <= t.cfg.After/2 || later < 3 && age <= t.cfg.After {
			out = append(out, x)
		}
	}
	return out
}

func middle(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[(len(of)-1)/2]
}

func (t *twin) pollOf(s *twinServer, now time.Time) time.Duration {
	var all []time.Duration
	for _, x := range t.counted(s, now) {
		if x.Poll > 0 {
			all = append(all, x.Poll)
		}
	}
	if len(all) < 3 {
		return 0
	}
	return middle(all)
}

func (t *twin) latencyOf(s *twinServer, now time.Time) time.Duration {
	var all []time.Duration
	requests := 0
	for _, x := range t.counted(s, now) {
		if x.Latency > 0 && x.Requests > 0 {
			all, requests = append(all, x.Latency), requests+int(x.Requests)
		}
	}
	if requests < 10 {
		return 0
	}
	return middle(all)
}

func (t *twin) slow(s *twinServer, now time.Time, of func(*twinServer, time.Time) time.Duration) float64 {
	own, bad := of(s, now), 0.0
	var others []time.Duration
	for _, o := range t.servers {
		if o != s && o.fit && o.state == Serving && of(o, now) > 0 {
			others = append(others, of(o, now))
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		usual := max(others[len(others)/2], t.cfg.FastLatency)
		bad = float64(own-usual) / (float64(usual) * float64(t.cfg.SlowFactor-1))
	}
	if t.cfg.SlowLatency > 0 {
		bad = math.Max(bad, float64(own)/float64(t.cfg.SlowLatency))
	}
	return math.Min(math.Max(bad, 0), 1)
}

func (t *twin) scoreOf(s *twinServer, now time.Time) int {
	var requests, busy float64
	var failed []float64 // of each sample that has requests
	counted := t.counted(s, now)
	for _, x := range counted {
		if x.Requests > 0 {
			failed = append(failed, math.Min(float64(x.Failures)/float64(x.Requests), 1))
		}
		requests += float64(x.Requests)
		busy += x.Saturation
	}
	if len(failed) < 3 && requests < 10 {
		return -1
	}
	errors := 0.0
	for _, f := range failed {
		errors += f / float64(len(failed)) / t.cfg.MaxErrorRatio
	}
	if requests < 5 {
		errors *= requests / 5
	}
	slow := math.Max(t.slow(s, now, t.pollOf), t.slow(s, now, t.latencyOf))
	w := [3]float64{float64(t.cfg.LatencyWeight), float64(t.cfg.ErrorWeight), float64(t.cfg.SaturationWeight)}
	good := w[0]*(1-slow) + w[1]*(1-math.Min(errors, 1)) + w[2]*(1-busy/float64(len(counted)))
	return int(math.Floor(100*good/(w[0]+w[1]+w[2]) + 0.5 + 1e-9))
}

func (t *twin) isWorse(s *twinServer) bool {
	better := 0
	for _, o := range t.servers {
		if o != s && o.fit && o.state == Serving && o.score >= 0 && o.score-s.score >= 10 {
			better++
		}
	}
	return !s.pinned && s.score >= 0 && s.score < t.cfg.MinScore && better >= t.cfg.MinServing
}

func (t *twin) fail(s *twinServer, now time.Time) {
	s.failures++
	nth := func(n int) time.Duration {
		d := t.cfg.Retry
		for range n - 1 {
			d *= 2
			if d > t.cfg.MaxRetry {
				d = t.cfg.MaxRetry
			}
		}
		return d - time.Duration(t.draw*float64(d)/4)
	}
	s.due, s.early = now.Add(nth(min(s.failures, 30))), now.Add(nth(1))
}

func (s *twinServer) become(state State, now time.Time) {
	s.state, s.since, s.verdicts = state, now, nil
}

func (t *twin) judge(now time.Time, fit, pinned []bool) {
	for i, s := range t.servers {
		if !fit[i] || !s.fit {
			s.void, s.verdicts = len(s.samples), nil
		}
		s.fit, s.pinned = fit[i], pinned[i]
	}
	allBad := true
	for _, s := range t.servers {
		s.score = t.scoreOf(s, now)
	}
	for _, s := range t.servers {
		if s.fit && s.state == Serving && (s.score < 0 || s.score >= t.cfg.MinScore) {
			allBad = false
		}
	}
	for _, s := range t.servers {
		switch {
		case s.state != Serving && s.pinned:
			s.become(Serving, now)
		case s.state == Trial && (!s.fit || t.isWorse(s)):
			t.fail(s, now)
			s.become(Isolated, now)
		case s.state == Trial && s.score >= 0 && now.Sub(s.since) >= t.cfg.After:
			s.become(Serving, now)
		case s.state == Isolated && s.fit && (!now.Before(s.due) || allBad && !now.Before(s.early)):
			if t.isWorse(s) {
				t.fail(s, now)
				continue
			}
			s.void, s.score = len(s.samples), -1
			s.become(Trial, now)
		}
	}
	t.isolateWorst(now)
}

func (t *twin) isolateWorst(now time.Time) {
	var long []*twinServer
	for _, s := range t.servers {
		if !s.fit || s.state != Serving {
			continue
		}
		s.verdicts = append(s.verdicts, verdict{now, t.isWorse(s)})
		first := now // of the verdicts in a row that it is worse
		for _, v := range slices.Backward(s.verdicts) {
			if !v.worse {
				break
			}
			first = v.at
		}
		seen := time.Time{}
		for _, x := range t.counted(s, now) {
			if x.Requests > 0 {
				seen = x.at
			}
		}
		if t.isWorse(s) && seen.Sub(first) >= t.cfg.After {
			long = append(long, s)
		}
	}
	for len(long) > 0 {
		worst := 0
		for i := range long {
			if long[i].score < long[worst].score {
				worst = i
			}
		}
		if s := long[worst]; t.isWorse(s) {
			if now.Sub(s.since) > t.cfg.MaxRetry {
				s.failures = 0
			}
			t.fail(s, now)
			s.become(Isolated, now)
		}
		long = slices.Delete(long, worst, worst+1)
	}
}

func drawConfig(t *rapid.T) poolkeeper.Isolation {
	return poolkeeper.Isolation{
		MinScore:   rapid.IntRange(1, 100).Draw(t, "MinScore"),
		After:      rapid.SampledFrom([]time.Duration{0, 6 * time.Second, 20 * time.Second}).Draw(t, "After"),
		Retry:      rapid.SampledFrom([]time.Duration{0, 5 * time.Second}).Draw(t, "Retry"),
		MaxRetry:   rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "MaxRetry"),
		TrialShare: rapid.SampledFrom([]float64{0, 0.01, 0.3, 1}).Draw(t, "TrialShare"),
		MinServing: rapid.IntRange(0, 3).Draw(t, "MinServing"), LatencyWeight: rapid.IntRange(0, 50).Draw(t, "wl"),
		ErrorWeight: rapid.IntRange(0, 50).Draw(t, "we"), SaturationWeight: rapid.IntRange(0, 50).Draw(t, "ws"),
		SlowFactor:  rapid.SampledFrom([]int{0, 2, 10}).Draw(t, "SlowFactor"),
		SlowLatency: rapid.SampledFrom([]time.Duration{0, 0, 100 * time.Millisecond}).Draw(t, "SlowLatency"),
	}
}

func drawSample(t *rapid.T, bad bool) Sample {
	took := time.Duration(rapid.IntRange(0, 9).Draw(t, "ms")) * time.Millisecond
	if bad {
		took *= 20
	}
	s := Sample{
		Poll: took, Latency: 2 * took, Requests: uint64(rapid.IntRange(0, 6).Draw(t, "requests")),
		Saturation: float64(rapid.IntRange(0, 4).Draw(t, "saturation")) / 4,
	}
	if bad {
		s.Failures = uint64(rapid.IntRange(0, 7).Draw(t, "failures"))
	}
	return s
}

// step is one round of a run: who is polled, with which result, who is fit.
type step struct {
	gap         time.Duration
	samples     map[int]Sample
	fit, pinned []bool
}

func drawSteps(t *rapid.T, servers int) []step {
	var out []step
	fit, pinned, bad := make([]bool, servers), make([]bool, servers), make([]bool, servers)
	for i := range fit {
		fit[i] = true
	}
	for range rapid.IntRange(1, 150).Draw(t, "steps") {
		s := step{gap: time.Duration(rapid.IntRange(0, 15).Draw(t, "gap")*rapid.SampledFrom([]int{1, 1, 5}).Draw(t, "sparse")) * 100 * time.Millisecond, samples: map[int]Sample{}}
		for i := range servers {
			switch rapid.IntRange(0, 40).Draw(t, "turn") {
			case 0:
				fit[i] = !fit[i]
			case 1, 2:
				bad[i] = !bad[i]
			case 3:
				pinned[i] = rapid.IntRange(0, 4).Draw(t, "pinned") == 0
			case 4:
				continue
			}
			s.samples[i] = drawSample(t, bad[i])
		}
		s.fit, s.pinned = slices.Clone(fit), slices.Clone(pinned)
		out = append(out, s)
	}
	return out
}

// TestGroupDoesWhatItsTwinDoes compares the two, and holds what must hold of every run.
func TestGroupDoesWhatItsTwinDoes(t *testing.T) { // INV-16
	rapid.Check(t, compare)
}

func FuzzGroupDoesWhatItsTwinDoes(f *testing.F) { f.Fuzz(rapid.MakeFuzz(compare)) }

func compare(t *rapid.T) {
	cfg := drawConfig(t)
	if err := Validate("p", cfg, time.Second); err != nil {
		t.Fatal(err)
	}
	n := rapid.IntRange(1, 5).Draw(t, "servers")
	draw := rapid.Float64Range(0, 0.999).Draw(t, "draw")
	now := time.Now()
	g := New[int](cfg, time.Second)
	g.draw = func() float64 { return draw }
	all := make([]Member[int], n)
	for i := range all {
		all[i] = Member[int]{Key: i, Fit: true}
	}
	g.Judge(now, all)
	naive := newTwin(g.cfg, draw, n, now)
	naive.judge(now, slices.Repeat([]bool{true}, n), make([]bool, n))
	for _, s := range drawSteps(t, n) {
		now = now.Add(s.gap)
		for i, x := range s.samples {
			g.Observe(i, now, x)
			naive.servers[i].samples = append(naive.servers[i].samples, stamped{x, now})
		}
		for i := range all {
			all[i] = Member[int]{Key: i, Fit: s.fit[i], Pinned: s.pinned[i]}
		}
		changes := g.Judge(now, all)
		naive.judge(now, s.fit, s.pinned)
		for i, want := range naive.servers {
			if got := g.Standing(i); got.State != want.state || got.HasScore != (want.score >= 0) || got.HasScore && got.Score != want.score {
				t.Fatalf("server %d after %v: %+v, and the twin has %s, score %d", i, s.gap, got, want.state, want.score)
			} else if want.state == Isolated && !got.NextTrial.Equal(want.due) {
				t.Fatalf("server %d is tried at %s, and the twin's at %s", i, got.NextTrial, want.due)
			}
		}
		holds(t, g, all, changes)
	}
}

// holds checks what must hold after every Judge, whatever came before.
func holds(t *rapid.T, g *Group[int], all []Member[int], changes []Change[int]) {
	var fit []int
	serving, trials := 0, 0
	for _, m := range all {
		if !m.Fit {
			continue
		}
		fit = append(fit, m.Key)
		switch g.Standing(m.Key).State {
		case Serving:
			serving++
		case Trial:
			trials++
		case Isolated:
			if m.Pinned {
				t.Fatalf("server %d is pinned, and isolated", m.Key)
			}
		}
	}
	for _, c := range changes {
		if c.From == Serving && c.To == Isolated && serving < g.cfg.MinServing {
			t.Fatalf("server %d was isolated, and %d serve of at least %d", c.Key, serving, g.cfg.MinServing)
		}
	}
	rotation := g.Rotation(fit)
	turns := map[int]int{}
	for _, k := range rotation {
		turns[k]++
	}
	if len(turns) < min(g.cfg.MinServing, len(fit)) {
		t.Fatalf("%d of %d fit servers are in rotation", len(turns), len(fit))
	}
	if serving < g.cfg.MinServing {
		return // some stand in
	}
	for k, n := range turns {
		switch state := g.Standing(k).State; {
		case state == Isolated:
			t.Fatalf("server %d is isolated and in rotation", k)
		case state == Trial && n != 1:
			t.Fatalf("server %d is on trial and has %d of %d turns", k, n, len(rotation))
		}
	}
	if trials > 0 && 1/float64(len(rotation)) > max(g.cfg.TrialShare, 1/float64(serving+trials)) {
		t.Fatalf("one of %d turns is more than %v", len(rotation), g.cfg.TrialShare)
	}
}
