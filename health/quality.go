package health

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// Defaults of [QualityPolicy].
const (
	DefaultQualityWindow    = 5
	DefaultSlowLatency      = 500 * time.Millisecond
	DefaultLatencyWeight    = 40
	DefaultSaturationWeight = 30
	DefaultErrorWeight      = 30
)

// Quality is how well a pool serves, beyond whether its server answers.
type Quality struct {
	// Latency is the moving average of the probe's round trips, WorstLatency the longest in the
	// window.
	Latency, WorstLatency time.Duration
	// Saturation is the moving average of the part of the pool in use, 0 to 1. A pool with callers
	// waiting counts as 1.
	Saturation float64
	// ErrorRatio is the moving average of the part of dials and acquisitions that failed, 0 to 1.
	ErrorRatio float64
	// Score is 0 (worst) to 100, by QualityPolicy.Score.
	Score int
}

// QualityPolicy says what quality is worth, and where a pool counts as degraded. Its zero value
// scores and degrades nothing.
type QualityPolicy struct {
	// MaxLatency, MaxWorstLatency, MaxSaturation, MaxErrorRatio and MinScore degrade the check when
	// they are passed. Zero: not judged. Ratios are between 0 and 1, the score between 0 and 100.
	MaxLatency, MaxWorstLatency time.Duration
	MaxSaturation               float64
	MaxErrorRatio               float64
	MinScore                    int

	// SlowLatency is the average latency at which nothing of the latency's weight is left. Default
	// 500 ms.
	SlowLatency time.Duration
	// LatencyWeight, SaturationWeight and ErrorWeight are the parts of the score. All zero: 40, 30
	// and 30; they need not add up to 100.
	LatencyWeight, SaturationWeight, ErrorWeight int
	// Window is how many runs the averages and the worst latency look back. Default 5.
	Window int
}

// Validate reports every fault at once, joined. It changes nothing; zero fields are not faults.
func (p QualityPolicy) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("health: quality: "+format, args...))
		}
	}
	fault(p.MaxLatency < 0, "MaxLatency %v is negative", p.MaxLatency)
	fault(p.MaxWorstLatency < 0, "MaxWorstLatency %v is negative", p.MaxWorstLatency)
	fault(!isRatio(p.MaxSaturation), "MaxSaturation %v is not between 0 and 1", p.MaxSaturation)
	fault(!isRatio(p.MaxErrorRatio), "MaxErrorRatio %v is not between 0 and 1", p.MaxErrorRatio)
	fault(p.MinScore < 0 || p.MinScore > 100, "MinScore %d is not between 0 and 100", p.MinScore)
	fault(p.SlowLatency < 0, "SlowLatency %v is negative", p.SlowLatency)
	fault(p.LatencyWeight < 0 || p.SaturationWeight < 0 || p.ErrorWeight < 0,
		"a weight of %d, %d, %d is negative", p.LatencyWeight, p.SaturationWeight, p.ErrorWeight)
	fault(p.Window < 0, "Window %d is negative", p.Window)
	return errors.Join(errs...)
}

func isRatio(x float64) bool { return x >= 0 && x <= 1 } // false for NaN

func (p QualityPolicy) withDefaults() QualityPolicy {
	orDefault(&p.SlowLatency, DefaultSlowLatency)
	orDefault(&p.Window, DefaultQualityWindow)
	if p.LatencyWeight == 0 && p.SaturationWeight == 0 && p.ErrorWeight == 0 {
		p.LatencyWeight, p.SaturationWeight, p.ErrorWeight = DefaultLatencyWeight, DefaultSaturationWeight, DefaultErrorWeight
	}
	return p
}

// Score is 100 for a pool that answers at once, has nothing in use and no errors, and 0 for one
// that is as bad as can be in all three. It is a pure function, linear in each part; what is out of
// range counts as the end of the range.
func (p QualityPolicy) Score(latency time.Duration, saturation, errorRatio float64) int {
	p = p.withDefaults()
	part := func(weight int, badness float64) float64 { return float64(weight) * (1 - clamp(badness)) }
	got := part(p.LatencyWeight, float64(latency)/float64(p.SlowLatency)) +
		part(p.SaturationWeight, saturation) + part(p.ErrorWeight, errorRatio)
	all := float64(p.LatencyWeight) + float64(p.SaturationWeight) + float64(p.ErrorWeight)
	return int(math.Round(100 * got / all))
}

// clamp brings x into 0 to 1; NaN is the worst.
func clamp(x float64) float64 {
	if math.IsNaN(x) {
		return 1
	}
	return min(max(x, 0), 1)
}

// faults says where q passes a limit, and of which kind the first of them is.
func (p QualityPolicy) faults(q Quality) (Kind, []string) {
	var kind Kind
	var lines []string
	add := func(bad bool, k Kind, format string, args ...any) {
		if !bad {
			return
		}
		if kind == KindNone {
			kind = k
		}
		lines = append(lines, fmt.Sprintf(format, args...))
	}
	add(p.MaxSaturation > 0 && q.Saturation > p.MaxSaturation, KindPoolExhausted,
		"saturation %.0f%% (limit %.0f%%)", 100*q.Saturation, 100*p.MaxSaturation)
	add(p.MaxErrorRatio > 0 && q.ErrorRatio > p.MaxErrorRatio, KindFlaky,
		"errors %.1f%% (limit %.1f%%)", 100*q.ErrorRatio, 100*p.MaxErrorRatio)
	add(p.MaxLatency > 0 && q.Latency > p.MaxLatency, KindSlow,
		"latency %v (limit %v)", q.Latency.Round(time.Microsecond), p.MaxLatency)
	add(p.MaxWorstLatency > 0 && q.WorstLatency > p.MaxWorstLatency, KindSlow,
		"worst latency %v (limit %v)", q.WorstLatency.Round(time.Microsecond), p.MaxWorstLatency)
	add(p.MinScore > 0 && q.Score < p.MinScore, KindFlaky, "score %d (limit %d)", q.Score, p.MinScore)
	return kind, lines
}

// QualityError is the reservation of a [QualityMeter]; find it with errors.As.
type QualityError struct {
	Quality Quality
	kind    Kind
	lines   []string
}

func (e *QualityError) Error() string { return strings.Join(e.lines, ", ") }

// HealthFault is of the kind of the limit that was passed.
func (e *QualityError) HealthFault() Fault { return FaultOf(e.kind) }

// QualityMeter is a probe that also judges quality: it runs another probe, measures how long it
// took, looks at the statistics of the pool, and answers with a reservation (see [Degraded]) when a
// limit of its policy is passed. A failed probe is returned as it is.
//
//	meter, err := health.NewQualityMeter(pool.Check, pool.Stats, health.QualityPolicy{MaxSaturation: 0.9})
//	...
//	m.Register(health.Check{Name: "orders", Probe: meter.Probe})
type QualityMeter struct {
	policy QualityPolicy
	probe  func(context.Context) error
	stats  func() poolkeeper.Stats

	mu     sync.Mutex // guards everything below
	runs   int
	last   poolkeeper.Stats
	recent []time.Duration // latencies of the last Window runs, newest last
	now    Quality
}

// NewQualityMeter returns a meter on the probe and the statistics of one pool, or the faults of the
// policy. stats is called once now and once per run.
func NewQualityMeter(probe func(context.Context) error, stats func() poolkeeper.Stats, p QualityPolicy) (*QualityMeter, error) {
	if probe == nil || stats == nil {
		return nil, errors.New("health: quality: probe and stats are both needed")
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	p = p.withDefaults()
	return &QualityMeter{policy: p, probe: probe, stats: stats, last: stats()}, nil
}

// Probe is the meter's probe, for [Check.Probe].
func (m *QualityMeter) Probe(ctx context.Context) error {
	begin := time.Now()
	err := m.probe(ctx)
	latency := time.Since(begin)
	stats := m.stats()
	q := m.take(latency, stats, err == nil)
	if err != nil {
		return err
	}
	if kind, lines := m.policy.faults(q); len(lines) > 0 {
		return Degraded(&QualityError{Quality: q, kind: kind, lines: lines})
	}
	return nil
}

// Quality returns what the last run found. Before the first it is the zero Quality.
func (m *QualityMeter) Quality() Quality {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// take adds one run to the averages. The latency of a failed one says nothing.
func (m *QualityMeter) take(latency time.Duration, s poolkeeper.Stats, answered bool) Quality {
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
	q.Saturation += weight * (saturation(s) - q.Saturation)
	q.ErrorRatio += weight * (errorRatio(m.last, s) - q.ErrorRatio)
	q.Score = m.policy.Score(q.Latency, q.Saturation, q.ErrorRatio)
	m.last = s
	return *q
}

// saturation is the part of the pool in use.
func saturation(s poolkeeper.Stats) float64 {
	switch {
	case s.Waiting > 0:
		return 1
	case s.Max <= 0:
		return 0 // no limit, or none is known
	}
	return clamp(float64(s.InUse) / float64(s.Max))
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
