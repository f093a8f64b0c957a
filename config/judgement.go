package config

import (
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// The limits beyond which a service counts as worse. docs/config.md documents them.
const (
	fewestErrors = 5                      // fewer prove nothing
	moreErrors   = 0.01                   // error ratio on top of twice that before
	fewestWaits  = 10                     // fewer prove nothing
	mostCrowded  = 3                      // looks in a row that find more callers waiting than Max
	longerWait   = 100 * time.Millisecond // mean wait of an acquisition, on top of four times that before
)

// sample holds the counters of one pool: since it started, or between two moments.
type sample struct {
	acquired, errors uint64
	waits            uint64
	waited           time.Duration
	down             bool
	crowded          int // looks that found more callers waiting than Max: all before a change, those in a row after it
}

// readings takes a sample of every pool of the file.
func (w *Watcher) readings() map[string]sample {
	entries := w.file.content().entries
	out := make(map[string]sample, len(entries))
	for _, e := range entries {
		s := e.comp.Stats()
		out[e.path()] = sample{
			acquired: max(s.Acquired, s.Use.Count), errors: s.AcquireTimeouts + s.Refused + s.DialErrors,
			waits: s.WaitCount, waited: s.WaitDuration, down: !s.DownSince.IsZero(), crowded: crowded(s),
		}
	}
	return out
}

// crowded is 1 if more callers wait than connections may be open, and otherwise 0.
func crowded(s poolkeeper.Stats) int {
	if s.Max > 0 && s.Waiting > s.Max {
		return 1
	}
	return 0
}

// since returns what was counted between an earlier sample and s.
func (s sample) since(earlier sample) sample {
	return sample{
		acquired: less(s.acquired, earlier.acquired), errors: less(s.errors, earlier.errors), waits: less(s.waits, earlier.waits),
		waited: max(s.waited-earlier.waited, 0), down: s.down, crowded: s.crowded,
	}
}

// less is a − b, or 0 if a counter began anew.
func less(a, b uint64) uint64 { return a - min(a, b) }

func (s sample) errorRatio() float64 {
	if s.errors == 0 {
		return 0
	}
	return float64(s.errors) / float64(s.errors+s.acquired)
}

func (s sample) meanWait() time.Duration {
	if s.waits == 0 {
		return 0
	}
	return s.waited / time.Duration(max(s.acquired, s.waits)) //nolint:gosec // a count of acquisitions
}

// worse returns why s, taken after a change, is worse than before, or "".
func (s sample) worse(before sample) string {
	switch {
	case s.down && !before.down:
		return "the server is down"
	case s.errors >= fewestErrors && s.errorRatio() > 2*before.errorRatio()+moreErrors:
		return fmt.Sprintf("%.1f %% of acquisitions fail, %.1f %% before", 100*s.errorRatio(), 100*before.errorRatio())
	case s.waits >= fewestWaits && s.meanWait() > 4*before.meanWait()+longerWait:
		return fmt.Sprintf("an acquisition waits for %s, %s before", s.meanWait().Round(time.Millisecond), before.meanWait().Round(time.Millisecond))
	case s.crowded >= mostCrowded && before.crowded == 0:
		return "more callers wait for a connection than may have one"
	}
	return ""
}

// history keeps the samples of the last Soak.
type history struct{ moments []moment }

type moment struct {
	at      time.Time
	samples map[string]sample
}

// add adds a moment, and forgets all but one of those that are older than span.
func (h *history) add(now time.Time, samples map[string]sample, span time.Duration) {
	h.moments = append(h.moments, moment{now, samples})
	old := 0
	for old+1 < len(h.moments) && now.Sub(h.moments[old+1].at) >= span {
		old++
	}
	h.moments = h.moments[old:]
}

// delta returns what was counted since the oldest moment.
func (h *history) delta(now map[string]sample) map[string]sample {
	out := make(map[string]sample, len(now))
	for name, s := range now {
		if len(h.moments) == 0 {
			out[name] = sample{down: s.down}
			continue
		}
		d := s.since(h.moments[0].samples[name])
		for _, m := range h.moments {
			d.crowded += m.samples[name].crowded
		}
		out[name] = d
	}
	return out
}
