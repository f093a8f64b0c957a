package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

const (
	// Longest is the longest duration that a configuration may ask for. Sums of two still fit into
	// a time.Duration.
	Longest = 100 * 365 * 24 * time.Hour
	// shortest is the least that a duration may be which is never chosen below a millisecond on
	// purpose.
	shortest = time.Millisecond
	// bare bounds the values that look like a number of seconds without its unit.
	bare = 100 * time.Microsecond
)

// Time is a duration of a configuration, and what it may be.
type Time struct {
	Name  string
	Value time.Duration
	Off   bool // Off is allowed
	Long  bool // it is refused below a millisecond: it is a number without its unit
}

// Times returns the faults of all durations of a configuration, joined, or nil. The package begins
// each of them.
func Times(pkg string, times ...Time) error {
	var errs []error
	for _, t := range times {
		if why := t.fault(); why != "" {
			errs = append(errs, fmt.Errorf("%s: %s is %s; %s", pkg, t.Name, t.Value, why))
		}
	}
	return errors.Join(errs...)
}

// fault says what t must be, or nothing if it is that.
func (t Time) fault() string {
	must := func(bound string) string {
		if t.Off {
			return "it must be " + bound + ", 0 (the default) or Off"
		}
		return "it must be " + bound + " or 0 (the default)"
	}
	switch {
	case t.Value == 0, t.Off && t.Value == poolkeeper.Off:
		return ""
	case t.Value < 0:
		return must("positive")
	case t.Value > Longest:
		return must("at most 100 years")
	case t.Long && t.Value < bare:
		return must("at least 1ms") + fmt.Sprintf("; durations are time.Duration: did you mean %d*time.Second?", int64(t.Value))
	case t.Long && t.Value < shortest:
		return must("at least 1ms")
	}
	return ""
}

// Or is what a field that may be Off comes to: its default if it is zero, and zero, which means off
// from here on, if it is Off, or anything negative.
func Or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return max(d, 0)
}

// Adaptive prints one that follows the link if it is zero, and may be poolkeeper.Off.
func Adaptive(key string, d time.Duration) slog.Attr {
	if d == 0 {
		return slog.String(key, "adaptive")
	}
	return Duration(key, max(d, 0))
}

// Duration prints one that may be off.
func Duration(key string, d time.Duration) slog.Attr {
	if d == 0 {
		return slog.String(key, "off")
	}
	return slog.Duration(key, d)
}
