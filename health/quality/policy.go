package quality

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
)

// Defaults of Policy.
const (
	defaultWindow           = 5
	defaultSlowLatency      = 500 * time.Millisecond
	defaultLatencyWeight    = 40
	defaultSaturationWeight = 30
	defaultErrorWeight      = 30
)

// Kinds of a pool that works, but not well. A saturated one is health.KindPoolExhausted.
const (
	KindSlow  health.Kind = "slow"  // it answers, but slowly
	KindFlaky health.Kind = "flaky" // too much of what is asked of it fails
)

// Policy sets the limits past which a working pool counts as degraded, and how its score is
// weighed. The zero Policy keeps a score and degrades nothing.
type Policy struct {
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
func (p Policy) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("quality: "+format, args...))
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

func (p Policy) withDefaults() Policy {
	p.SlowLatency = cmp.Or(p.SlowLatency, defaultSlowLatency)
	p.Window = cmp.Or(p.Window, defaultWindow)
	if p.LatencyWeight == 0 && p.SaturationWeight == 0 && p.ErrorWeight == 0 {
		p.LatencyWeight, p.SaturationWeight, p.ErrorWeight = defaultLatencyWeight, defaultSaturationWeight, defaultErrorWeight
	}
	return p
}

// score is 100 for a pool that answers at once, has nothing in use and no errors, and 0 for one
// that is as bad as can be in all three. It is a pure function, linear in each part; what is out of
// range counts as the end of the range.
func (p Policy) score(latency time.Duration, saturation, errorRatio float64) int {
	p = p.withDefaults()
	return isolation.Score(
		isolation.Part{Weight: p.LatencyWeight, Badness: float64(latency) / float64(p.SlowLatency)},
		isolation.Part{Weight: p.SaturationWeight, Badness: saturation},
		isolation.Part{Weight: p.ErrorWeight, Badness: errorRatio},
	)
}

// faults says where q passes a limit, and of which kind the first of them is.
func (p Policy) faults(q Reading) (health.Kind, []string) {
	var kind health.Kind
	var lines []string
	add := func(bad bool, k health.Kind, format string, args ...any) {
		if !bad {
			return
		}
		if kind == health.KindNone {
			kind = k
		}
		lines = append(lines, fmt.Sprintf(format, args...))
	}
	add(p.MaxSaturation > 0 && q.Saturation > p.MaxSaturation, health.KindPoolExhausted,
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
