package isolation

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Defaults and bounds of poolkeeper.Isolation.
const (
	defaultAfter         = 10 * time.Second
	defaultRetry         = 30 * time.Second
	defaultMaxRetry      = 5 * time.Minute
	defaultTrialShare    = 0.05
	defaultSlowFactor    = 5
	defaultFastLatency   = 5 * time.Millisecond
	defaultMaxErrorRatio = 0.5

	defaultLatencyWeight    = 40
	defaultErrorWeight      = 30
	defaultSaturationWeight = 30

	leastTrialShare = 0.01
	mostWeight      = 1_000_000
	mostFactor      = 1000
	leastPolls      = 2 * leastSamples // in After, for those that a score needs in half of it
	defaultPolls    = 10               // in After
)

// Validate returns every fault of c, joined, or nil. Each fault begins with the package name pkg.
// poll is the time between two samples of a server.
func Validate(pkg string, c poolkeeper.Isolation, poll time.Duration) error {
	errs := []error{settings.Times(pkg,
		settings.Time{Name: "Isolation.After", Value: c.After, Long: true},
		settings.Time{Name: "Isolation.Retry", Value: c.Retry, Long: true},
		settings.Time{Name: "Isolation.MaxRetry", Value: c.MaxRetry, Long: true},
		settings.Time{Name: "Isolation.FastLatency", Value: c.FastLatency},
		settings.Time{Name: "Isolation.SlowLatency", Value: c.SlowLatency},
	)}
	fault := func(bad bool, field string, value any, must string) {
		if bad {
			errs = append(errs, fmt.Errorf("%s: Isolation.%s is %v; it must be %s", pkg, field, value, must))
		}
	}
	fault(c.MinScore < 0 || c.MinScore > 100, "MinScore", c.MinScore, "from 1 to 100, or 0 (off)")
	fault(c.After >= time.Millisecond && c.After < polls(leastPolls, poll), "After", c.After,
		fmt.Sprintf("at least %s, which is %d polls", polls(leastPolls, poll), leastPolls))
	full := WithDefaults(c, poll)
	fault(c.MaxRetry >= time.Millisecond && full.Retry > c.MaxRetry, "MaxRetry", c.MaxRetry, fmt.Sprintf("at least Retry, %s", full.Retry))
	fault(c.TrialShare != 0 && !(c.TrialShare >= leastTrialShare && c.TrialShare <= 1), "TrialShare", c.TrialShare,
		"from 0.01 to 1, or 0 (the default)")
	fault(c.MinServing < 0, "MinServing", c.MinServing, "positive or 0 (the default)")
	for _, w := range []struct {
		name  string
		value int
	}{
		{"LatencyWeight", c.LatencyWeight}, {"ErrorWeight", c.ErrorWeight}, {"SaturationWeight", c.SaturationWeight},
	} {
		fault(w.value < 0 || w.value > mostWeight, w.name, w.value, "from 0 to 1,000,000")
	}
	fault(c.SlowFactor != 0 && (c.SlowFactor < 2 || c.SlowFactor > mostFactor), "SlowFactor", c.SlowFactor,
		"from 2 to 1,000, or 0 (the default)")
	fault(!(c.MaxErrorRatio >= 0 && c.MaxErrorRatio <= 1), "MaxErrorRatio", c.MaxErrorRatio,
		"from 0 to 1; 0 is the default")
	return errors.Join(errs...)
}

// WithDefaults returns a copy of c with its defaults filled in.
func WithDefaults(c poolkeeper.Isolation, poll time.Duration) poolkeeper.Isolation {
	c.After = settings.Or(c.After, max(defaultAfter, polls(defaultPolls, poll)))
	c.Retry = settings.Or(c.Retry, defaultRetry)
	c.MaxRetry = settings.Or(c.MaxRetry, max(defaultMaxRetry, c.Retry))
	if c.TrialShare == 0 {
		c.TrialShare = defaultTrialShare
	}
	c.MinServing = max(c.MinServing, 1)
	if c.LatencyWeight == 0 && c.ErrorWeight == 0 && c.SaturationWeight == 0 {
		c.LatencyWeight, c.ErrorWeight, c.SaturationWeight = defaultLatencyWeight, defaultErrorWeight, defaultSaturationWeight
	}
	if c.SlowFactor == 0 {
		c.SlowFactor = defaultSlowFactor
	}
	c.FastLatency = settings.Or(c.FastLatency, defaultFastLatency)
	if c.MaxErrorRatio == 0 {
		c.MaxErrorRatio = defaultMaxErrorRatio
	}
	return c
}

// SampleEvery returns the time between two samples for a pool that does not poll its servers: a tenth
// of After, at most a second.
func SampleEvery(c poolkeeper.Isolation) time.Duration {
	const most, part = time.Second, 10
	if c.After <= 0 {
		return most
	}
	return min(max(c.After/part, time.Millisecond), most)
}

// polls returns how long n polls take.
func polls(n int, interval time.Duration) time.Duration {
	return time.Duration(n) * min(max(interval, 0), settings.Longest/defaultPolls)
}

// Settings returns the settings in effect.
func Settings(c poolkeeper.Isolation, poll time.Duration) slog.Attr {
	if c.MinScore == 0 {
		return slog.String("isolation", "off")
	}
	full := WithDefaults(c, poll)
	return slog.Group("isolation",
		slog.Int("min_score", full.MinScore), slog.Duration("after", full.After), slog.Duration("retry", full.Retry),
		slog.Duration("max_retry", full.MaxRetry), slog.Float64("trial_share", full.TrialShare), slog.Int("min_serving", full.MinServing))
}
