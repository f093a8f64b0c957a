package isolation

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// State is a server's state of isolation.
type State string

// States. Their transitions are those of judge:
//
//	serving → isolated              its score was too low throughout After
//	isolated → trial                its pause is over
//	trial → serving or isolated     the samples of its trial decide
const (
	Serving  State = "serving"
	Isolated State = "isolated"
	Trial    State = "trial"
)

// margin is how many points better the others must be before a server is isolated. It keeps a server
// in rotation if isolating it would gain little.
const margin = 10

// Member is a server to judge.
type Member[K comparable] struct {
	Key    K
	Fit    bool // it can serve now
	Pinned bool // it is never isolated
}

// Standing is a server's state, score and next trial.
type Standing struct {
	State     State
	Since     time.Time // of State
	Score     int
	HasScore  bool      // Score is known
	Why       string    // why it was isolated; empty while it serves
	NextTrial time.Time // zero unless it is isolated
}

// Change is a server's step from one state to another.
type Change[K comparable] struct {
	Key      K
	From, To State
	Standing Standing // in the state To
}

// Group keeps the scores and states of servers that can replace each other. It is not safe for
// concurrent use.
type Group[K comparable] struct {
	cfg     poolkeeper.Isolation // with defaults
	draw    func() float64       // a random number in [0, 1)
	members map[K]*member
}

// member holds the samples and the state of one server.
//
//	serving:  under is since when its score is too low; zero if it is not
//	isolated: due is when its trial begins; soonest is when it begins if no other serves well
type member struct {
	Standing

	fit, pinned  bool
	samples      window
	seen         reading // of samples, as of the last Judge
	under        time.Time
	failures     int // trials that failed since it served for MaxRetry; the first isolation counts as one
	due, soonest time.Time
}

// New returns a Group. c must be valid; the zero value is off.
func New[K comparable](c poolkeeper.Isolation, poll time.Duration) *Group[K] {
	g := &Group[K]{draw: rand.Float64, members: map[K]*member{}}
	g.Configure(c, poll)
	return g
}

// Configure replaces the configuration and keeps the samples and states of the servers. If c is off,
// it drops them, and all servers serve again without a Change.
func (g *Group[K]) Configure(c poolkeeper.Isolation, poll time.Duration) {
	g.cfg = WithDefaults(c, poll)
	if !g.On() {
		clear(g.members)
	}
}

// On reports whether servers can be isolated.
func (g *Group[K]) On() bool { return g.cfg.MinScore > 0 }

// Observe adds a sample of a server.
func (g *Group[K]) Observe(key K, now time.Time, s Sample) {
	if !g.On() {
		return
	}
	m := g.member(key, now)
	m.samples = append(m.samples, stamped{s, now}).since(now, g.cfg.After)
}

func (g *Group[K]) member(key K, now time.Time) *member {
	m := g.members[key]
	if m == nil {
		m = &member{Standing: Standing{State: Serving, Since: now}, fit: true}
		g.members[key] = m
	}
	return m
}

// Standing returns a server's Standing. An unknown server serves.
func (g *Group[K]) Standing(key K) Standing {
	if m := g.members[key]; m != nil {
		return m.Standing
	}
	return Standing{State: Serving}
}

// Judge decides which servers are isolated now, and returns the changes. all lists every server of
// the group; Judge forgets others. Call it after each sample, and when a server becomes fit or unfit.
func (g *Group[K]) Judge(now time.Time, all []Member[K]) []Change[K] {
	if !g.On() {
		return nil
	}
	r := g.round(now, all)
	r.release()
	r.isolate()
	return r.changes
}

// Rotation returns the servers to take in turn, chosen from may. Serving servers get equal parts of
// the turns, and each server on trial gets TrialShare of them. If fewer than MinServing serve, the
// best of the others stand in. The result is empty only if may is.
func (g *Group[K]) Rotation(may []K) []K {
	if !g.On() {
		return may
	}
	var out, trials, others []K
	for _, key := range may {
		switch g.Standing(key).State {
		case Serving:
			out = append(out, key)
		case Trial:
			trials, others = append(trials, key), append(others, key)
		case Isolated:
			others = append(others, key)
		}
	}
	if lacking := g.cfg.MinServing - len(out); lacking > 0 {
		slices.SortStableFunc(others, func(a, b K) int { return cmp.Compare(g.standIn(b), g.standIn(a)) })
		in := others[:min(lacking, len(others))]
		trials = slices.DeleteFunc(trials, func(k K) bool { return slices.Contains(in, k) })
		out = append(out, in...)
	}
	return spread(out, trials, g.cfg.TrialShare)
}

// standIn returns the score of a server that does not serve, or -1 if it is not known.
func (g *Group[K]) standIn(key K) int {
	if m := g.members[key]; m.HasScore {
		return m.Score
	}
	return -1
}

// spread repeats serving until each of trials has no more than share of the turns. Each of trials
// gets at least one turn.
func spread[K any](serving, trials []K, share float64) []K {
	if len(trials) == 0 || len(serving) == 0 {
		return append(serving, trials...)
	}
	out := make([]K, 0, int(1/share)+len(serving)+len(trials))
	for len(out) == 0 || share*float64(len(out)+len(trials)) < 1 {
		out = append(out, serving...)
	}
	return append(out, trials...)
}

// pause returns how long a server is isolated after so many failures. draw is a random number in
// [0, 1).
func (g *Group[K]) pause(failures int, draw float64) time.Duration {
	d := g.cfg.Retry
	for range min(failures, 64) - 1 {
		if d = min(2*d, g.cfg.MaxRetry); d == g.cfg.MaxRetry {
			break
		}
	}
	return d - time.Duration(draw*float64(d)/4)
}
