package measure

import (
	"maps"
	"slices"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// The possible words of each StateSet, in the order of a component's life.
//
//nolint:gochecknoglobals // constant tables
var (
	phases   = []string{"new", "starting", "up", "closing", "closed"}
	states   = stateWords()
	statuses = []string{
		health.StatusPass.String(), health.StatusWarn.String(), health.StatusFail.String(), health.StatusUnknown.String(),
	}
)

func stateWords() (words []string) {
	for s := lifecycle.StateAdded; s <= lifecycle.StateAbandoned; s++ {
		words = append(words, s.String())
	}
	return words
}

// registry yields the phase of the registry and the states of its components.
func (r *reader) registry(s lifecycle.Status) {
	r.choice(Phase, s.Phase, phases)
	seen := map[string]bool{}
	for i := range s.Components {
		c := &s.Components[i]
		name := printable(c.Name)
		if seen[name] {
			continue
		}
		seen[name] = true
		r.choice(ComponentState, c.State.String(), states, name)
		if !c.Up.Began.IsZero() {
			r.duration(ComponentStart, c.Up.Took, name)
		}
		if !c.Down.Began.IsZero() {
			r.duration(ComponentStop, c.Down.Took, name)
		}
		r.count(ComponentRestarts, c.Restarts, name)
	}
}

func (r *reader) server(name string, s *poolkeeper.ServerStats) {
	r.count(ServerInFlight, s.InFlight, name)
	r.count(ServerStreams, s.Streams, name)
	r.count(ServerConnections, s.Connections, name)
	r.count(ServerHijacked, s.Hijacked, name)
	r.total(ServerRequests, s.Requests, name)
	r.total(ServerRefused, s.Refused, name)
}

func (r *reader) streams(name string, s *poolkeeper.StreamStats) {
	r.count(StreamsOpen, s.WebSocket, name, "websocket")
	r.count(StreamsOpen, s.SSE, name, "sse")
	r.count(StreamsBuffered, s.Buffered, name)
	r.total(StreamsOpened, s.Opened, name)
	r.total(StreamsSent, s.Sent, name)
	r.total(StreamsDropped, s.Dropped, name)
	r.total(StreamsReplayed, s.Replayed, name)
	r.byReason(StreamsEnded, s.Ended, name)
	r.byReason(StreamsRefused, s.Refused, name)
}

// maxReasons bounds how many reasons of a hub have series of their own.
const maxReasons = 20

func (r *reader) byReason(m *Metric, by map[string]uint64, name string) {
	seen := map[string]bool{}
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		word := printable(reason)
		if seen[word] {
			continue
		}
		if len(seen) == maxReasons {
			return
		}
		seen[word] = true
		r.total(m, by[reason], name, word)
	}
}

// maxExpiries bounds how many certificates of a component have series of their own: a bundle of
// authorities has hundreds.
const maxExpiries = 20

// expiries yields the earliest expiries.
func (r *reader) expiries(name string, all []poolkeeper.Expiry) {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b poolkeeper.Expiry) int { return a.NotAfter.Compare(b.NotAfter) })
	type subject struct{ kind, name string }
	seen := map[subject]bool{}
	for _, e := range all {
		of := subject{printable(e.Kind), printable(e.Subject)}
		if e.NotAfter.IsZero() || seen[of] {
			continue
		}
		if len(seen) == maxExpiries {
			return
		}
		seen[of] = true
		r.moment(Expiry, e.NotAfter, name, of.kind, of.name)
	}
}

// health yields the verdicts of the monitor.
func (r *reader) health(report *health.Report) {
	r.now = report.At // as their times
	for i := range report.Checks {
		r.check(&report.Checks[i])
	}
	for _, g := range report.Groups {
		r.choice(GroupStatus, g.Status.String(), statuses, printable(g.Name))
	}
	for _, h := range report.Heartbeats {
		name := printable(h.Name)
		r.age(HeartbeatAge, h.LastBeat, name)
		r.duration(HeartbeatMaxAge, h.MaxAge, name)
	}
}

func (r *reader) check(c *health.CheckReport) {
	name := printable(c.Name)
	r.choice(CheckStatus, c.Status.String(), statuses, name)
	if !c.LastResult.IsZero() {
		r.age(CheckAge, c.LastResult, name)
		r.duration(CheckDuration, c.Duration, name)
	}
	r.duration(CheckMaxAge, c.MaxAge, name)
	r.total(CheckRuns, c.Runs, name)
	r.total(CheckFailedRuns, c.FailedRuns, name)
	r.count(CheckFailures, c.Failures, name)
	r.truth(CheckHung, !c.HungSince.IsZero(), name)
}
