package quality

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/printing"
)

// Reading is how well a pool serves, beyond whether its server answers.
type Reading struct {
	// Latency is the moving average of the probe's round trips, WorstLatency the longest in the
	// window.
	Latency, WorstLatency time.Duration
	// Saturation is the moving average of the part of the pool in use, 0 to 1. A pool with callers
	// waiting counts as 1.
	Saturation float64
	// ErrorRatio is the moving average of the part of dials and acquisitions that failed, 0 to 1.
	ErrorRatio float64
	// Score weighs the three: 0 is the worst, 100 the best. See Policy.
	Score int
}

// LimitError says which limits of its policy a pool passes. A [Meter] returns it, marked by
// [health.Degraded]; find it with errors.As.
type LimitError struct {
	Reading Reading
	kind    health.Kind
	lines   []string
}

func (e *LimitError) Error() string { return strings.Join(e.lines, ", ") }

// HealthFault is of the kind of the limit that was passed.
func (e *LimitError) HealthFault() health.Fault {
	f := health.FaultOf(e.kind)
	if advice, ok := advices[e.kind]; ok {
		f.Advice = advice
	}
	return f
}

// advices say what to look at first.
//
//nolint:gochecknoglobals // a constant table
var advices = map[health.Kind]string{
	KindSlow:  "it answers, but slowly: look at the server's load and at the network",
	KindFlaky: "part of the work fails: look at the errors of the pool and at the server's log",
}

// Meter is a probe that also judges how well a pool serves. It runs another probe and measures its
// round trip, reads the statistics of the pool, and returns a [LimitError] if a limit of its policy
// is passed. It returns the error of a failed probe as it is. Its methods are safe for concurrent
// use.
type Meter struct {
	policy Policy
	probe  func(context.Context) error
	stats  func() poolkeeper.Stats

	mu     sync.Mutex // guards everything below
	runs   int
	last   poolkeeper.Stats
	recent []time.Duration // latencies of the last Window runs, newest last
	now    Reading
}

// NewMeter returns a meter on the probe and the statistics of one pool, or the faults of the
// policy. It calls stats once, and each run calls it once more.
func NewMeter(probe func(context.Context) error, stats func() poolkeeper.Stats, p Policy) (*Meter, error) {
	if probe == nil || stats == nil {
		return nil, errors.New("quality: NewMeter needs both a probe and stats")
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	p = p.withDefaults()
	return &Meter{policy: p, probe: probe, stats: stats, last: stats()}, nil
}

// Probe runs the probe and judges the pool. It is made for [health.Check.Probe], and blocks as long
// as the probe does.
func (m *Meter) Probe(ctx context.Context) error {
	begin := time.Now()
	err := m.probe(ctx)
	latency := time.Since(begin)
	stats := m.stats()
	q := m.take(latency, stats, err == nil)
	if err != nil {
		return err
	}
	if kind, lines := m.policy.faults(q); len(lines) > 0 {
		return health.Degraded(&LimitError{Reading: q, kind: kind, lines: lines})
	}
	return nil
}

// Reading returns what the last run found. Before the first it is the zero Reading.
func (m *Meter) Reading() Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// take adds one run to the averages. The latency of a failed one says nothing.
func (m *Meter) take(latency time.Duration, s poolkeeper.Stats, answered bool) Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runs++
	weight := 2 / (float64(m.policy.Window) + 1) // exponential: the last Window runs make 86 % of the average
	if m.runs == 1 {
		weight = 1
	}
	q := &m.now
	if answered {
		w := weight
		if len(m.recent) == 0 {
			w = 1
		}
		q.Latency += time.Duration(w * float64(latency-q.Latency))
		m.recent = append(m.recent, latency)
		if len(m.recent) > m.policy.Window {
			m.recent = m.recent[1:]
		}
		q.WorstLatency = 0
		for _, l := range m.recent {
			q.WorstLatency = max(q.WorstLatency, l)
		}
	}
	q.Saturation += weight * (isolation.Saturation(s) - q.Saturation)
	q.ErrorRatio += weight * (errorRatio(m.last, s) - q.ErrorRatio)
	q.Score = m.policy.score(q.Latency, q.Saturation, q.ErrorRatio)
	m.last = s
	return *q
}

// errorRatio is the part of what was tried between two moments that failed.
func errorRatio(before, after poolkeeper.Stats) float64 {
	grown := func(a, b uint64) float64 { return float64(b - min(a, b)) } // 0 if the pool began to count anew
	bad := grown(before.DialErrors, after.DialErrors) + grown(before.AcquireTimeouts, after.AcquireTimeouts)
	good := grown(before.Dials, after.Dials) + grown(before.Use.Count, after.Use.Count)
	if bad+good == 0 {
		return 0
	}
	return bad / (bad + good)
}

// String returns the score.
func (m *Meter) String() string { return fmt.Sprintf("quality.Meter{score: %d}", m.Reading().Score) }

// Format prints what String returns, for every verb: the pool of the probe may hold secrets.
func (m *Meter) Format(f fmt.State, _ rune) { printing.Format(f, m) }
