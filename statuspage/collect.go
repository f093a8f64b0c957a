package statuspage

import (
	"cmp"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// Bounds of the lists, of one component or in all.
const (
	maxSettings = 400
	maxMembers  = 200
	maxGroups   = 100
	maxExpiries = 50
)

// newProcess describes this process.
func newProcess(name string, born time.Time) Process {
	p := Process{Name: name, Go: runtime.Version(), PID: os.Getpid(), Started: born}
	if host, err := os.Hostname(); err == nil {
		p.Host = host
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "(devel)" {
		p.Version = info.Main.Version
	}
	return p
}

// overallOf returns the state of the service. Reason and Advice are for readers who may see details.
func overallOf(s *lifecycle.Status, r *health.Report) Overall {
	o := Overall{Phase: s.Phase, Since: s.Since, Draining: r.Draining, Ready: "fail", Live: "fail"}
	if g, ok := r.Group(health.GroupLive); ok {
		o.Live = g.Status.String()
	}
	if g, ok := r.Group(health.GroupReady); ok {
		o.Ready, o.Reason = g.Status.String(), g.Reason
	}
	if o.Ready == health.StatusPass.String() {
		return o
	}
	for i := range r.Checks {
		if c := &r.Checks[i]; !c.Status.OK() && len(c.CausedBy) == 0 && c.Fault.Advice != "" {
			o.Advice = c.Fault.Advice
			break
		}
	}
	return o
}

// documentOf is a collection under way.
type documentOf struct {
	Document

	words *words
	past  *history
}

// collect asks all components and returns one moment of the service. The caller holds p.work.
func (p *Page) collect(now time.Time) *Document {
	status, report := p.reg.Status(), p.reg.Health().Report()
	d := documentOf{words: p.words, past: p.past, Document: Document{
		Version: Version, At: now, Details: true, Process: p.process, Interval: p.cfg.Interval.Seconds(),
		Overall: overallOf(&status, report),
	}}
	d.Overall.Reason, d.Overall.Advice = d.words.clean(d.Overall.Reason), d.words.clean(d.Overall.Advice)
	d.addHealth(report)
	components := maps.Collect(p.reg.Components())
	deadline := now.Add(allPatience)
	for i := range status.Components {
		c := &status.Components[i]
		a := p.interview.ask(c.Name, components[c.Name], true, deadline)
		d.addComponent(c, &a, report)
	}
	slices.SortFunc(d.Holders, func(a, b HolderGroup) int { return a.Oldest.Compare(b.Oldest) })
	d.Holders = d.Holders[:min(len(d.Holders), maxGroups)]
	d.Events = p.journal.newestFirst()
	d.Start, d.Shutdown = d.report(status.Start), d.report(status.Shutdown)
	d.Attention = attention(&d.Document)
	if err := p.fell.Load(); err != nil {
		d.Attention = append(d.Attention, Notice{
			Severity: SeverityWarning, Component: "status page", Text: d.words.clean("a sample panicked: " + text(*err)),
			Advice: "a fault of statuspage or of a component: please report it",
		})
	}
	return &d.Document
}

func (d *documentOf) addComponent(c *lifecycle.ComponentStatus, a *answer, r *health.Report) {
	name := d.words.clean(c.Name)
	d.Components = append(d.Components, Component{
		Name: name, Type: strings.TrimPrefix(d.words.clean(c.Type), "*"), State: shownState(c), Health: healthOf(c.Name, r), Since: c.Since,
		DependsOn: d.words.cleanAll(c.DependsOn), Ops: c.Ops, Restarts: c.Restarts, Error: d.words.clean(text(c.Err)),
		Settings: d.settings("", a.settings, nil), Expiries: d.expiries(a.expiries), Unanswered: a.unanswered,
	})
	if a.stats != nil {
		p := d.pool(c.Name, a.stats)
		p.LeakThreshold = leakThreshold(d.Components[len(d.Components)-1].Settings)
		d.Pools = append(d.Pools, p)
	}
	if s := a.server; s != nil {
		d.Servers = append(d.Servers, Server{
			Name: name, InFlight: s.InFlight, Streams: s.Streams, Connections: s.Connections, Hijacked: s.Hijacked,
			Requests: s.Requests, Refused: s.Refused, Rate: d.past.rate(c.Name),
		})
	}
	if s := a.streams; s != nil {
		d.Streams = append(d.Streams, Streams{
			Name: name, WebSocket: s.WebSocket, SSE: s.SSE, Buffered: s.Buffered, Opened: s.Opened, Sent: s.Sent,
			Dropped: s.Dropped, Replayed: s.Replayed, Ended: d.occurred(s.Ended), Refused: d.occurred(s.Refused),
		})
	}
	d.Holders = append(d.Holders, d.folded(name, a.holders)...)
}

// occurred returns the counts that are not zero.
func (d *documentOf) occurred(counts map[string]uint64) map[string]uint64 {
	out := make(map[string]uint64)
	for reason, n := range counts {
		if n > 0 {
			out[d.words.clean(reason)] += n
		}
	}
	return out
}

// shownState returns the state of c. A component whose start failed stays failed, also after its
// resources were released.
func shownState(c *lifecycle.ComponentStatus) string {
	if c.State == lifecycle.StateStopped && c.Up.Outcome != event.OutcomeNone && c.Up.Outcome != event.OutcomeOK {
		return lifecycle.StateFailed.String()
	}
	return c.State.String()
}

// healthOf returns the worst status of a component's checks. Their names are the component's, or begin
// with it and a slash.
func healthOf(name string, r *health.Report) string {
	worst, found := health.StatusPass, false
	rank := func(s health.Status) int {
		return slices.Index([]health.Status{health.StatusPass, health.StatusUnknown, health.StatusWarn, health.StatusFail}, s)
	}
	for i := range r.Checks {
		c := &r.Checks[i]
		rest, ok := strings.CutPrefix(c.Name, name)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		found = true
		s := c.Status
		if s == health.StatusFail && c.Impact == health.ImpactDegrading {
			s = health.StatusWarn
		}
		if rank(s) > rank(worst) {
			worst = s
		}
	}
	if !found {
		return ""
	}
	return worst.String()
}

func (d *documentOf) pool(name string, s *poolkeeper.Stats) Pool {
	p := Pool{Name: d.words.clean(name), PoolFigures: d.figures(s), Recent: d.past.recent(name), Fleet: d.fleet(&s.Fleet)}
	for i := range s.Members[:min(len(s.Members), maxMembers)] {
		m := &s.Members[i]
		out := Member{
			Name: d.words.clean(m.Name), Primary: m.Primary, State: d.words.clean(m.State), InRotation: m.InRotation,
			PoolFigures: d.figures(&m.Stats), Fleet: d.fleet(&m.Stats.Fleet),
		}
		if m.HasLag {
			lag := m.Lag.Seconds()
			out.Lag = &lag
		}
		if m.HasScore {
			out.Score = &m.Score
		}
		out.Isolated, out.Why = m.Isolated, d.words.clean(m.Why)
		if !m.NextTrial.IsZero() {
			out.NextTrial = &m.NextTrial
		}
		p.Members = append(p.Members, out)
	}
	return p
}

// fleet returns nil if the server was never asked.
func (d *documentOf) fleet(f *poolkeeper.FleetStats) *Fleet {
	if f.Asked.IsZero() && len(f.Warnings) == 0 {
		return nil
	}
	return &Fleet{Asked: f.Asked, Demand: f.Demand, Limit: f.Limit, OnServer: f.OnServer, Warnings: d.words.cleanAll(f.Warnings)}
}

func (d *documentOf) figures(s *poolkeeper.Stats) PoolFigures {
	f := PoolFigures{
		Max: s.Max, MinIdle: s.MinIdle, Open: s.Open, InUse: s.InUse, Idle: s.Idle, Dialing: s.Dialing, Waiting: s.Waiting,
		OldestHold: s.OldestHold.Seconds(), Paused: s.Paused, DownSince: s.DownSince, Generation: s.Generation,
		SweepLate: s.SweepLate.Seconds(), WaitCount: s.WaitCount, WaitTotal: s.WaitDuration.Seconds(), Dials: s.Dials,
		DialErrors: s.DialErrors, Acquired: s.Acquired, AcquireTimeouts: s.AcquireTimeouts, Refused: s.Refused, Leaks: s.Leaks, Reclaimed: s.Reclaimed,
		LastDialError: d.words.clean(text(s.LastDialError)), LastDialErrorTime: s.LastDialErrorTime,
	}
	if len(s.Evicted) > 0 {
		f.Evicted = make(map[string]uint64, len(s.Evicted))
		for reason, n := range s.Evicted {
			f.Evicted[d.words.clean(reason)] = n
		}
	}
	return f
}

// leakThreshold returns the shortest LeakThreshold in seconds. A replicated pool has one for each
// member.
func leakThreshold(settings []Setting) float64 {
	shortest := 0.0
	for _, s := range settings {
		if s.Key != "leak_threshold" && !strings.HasSuffix(s.Key, ".leak_threshold") {
			continue
		}
		if d, err := time.ParseDuration(s.Value); err == nil && (shortest == 0 || d.Seconds() < shortest) {
			shortest = d.Seconds()
		}
	}
	return shortest
}

// settings flattens groups, and appends to out.
func (d *documentOf) settings(prefix string, attrs []slog.Attr, out []Setting) []Setting {
	for _, a := range attrs {
		key := d.words.clean(prefix + a.Key)
		switch {
		case len(out) == maxSettings:
			return out
		case a.Value.Kind() == slog.KindGroup && a.Key == "":
			out = d.settings(prefix, a.Value.Group(), out)
		case a.Value.Kind() == slog.KindGroup:
			out = d.settings(prefix+a.Key+".", a.Value.Group(), out)
		default:
			out = append(out, Setting{Key: key, Value: d.words.value(key, a.Value.String())})
		}
	}
	return out
}

func (d *documentOf) expiries(all []poolkeeper.Expiry) []Expiry {
	out := make([]Expiry, 0, len(all))
	for _, e := range all {
		out = append(out, Expiry{Kind: d.words.clean(e.Kind), Subject: d.words.clean(e.Subject), NotAfter: e.NotAfter})
	}
	slices.SortStableFunc(out, func(a, b Expiry) int { return a.NotAfter.Compare(b.NotAfter) })
	return out[:min(len(out), maxExpiries)]
}

func (d *documentOf) addHealth(r *health.Report) {
	for i := range r.Checks {
		c := &r.Checks[i]
		d.Checks = append(d.Checks, Check{
			Name: d.words.clean(c.Name), Status: c.Status.String(), Impact: c.Impact.String(), Groups: d.words.cleanAll(c.Groups),
			Since: c.Since, LastResult: c.LastResult, Error: d.words.clean(text(c.Err)), Kind: string(c.Fault.Kind),
			Advice: d.words.clean(c.Fault.Advice), CausedBy: d.words.cleanAll(c.CausedBy), Failures: c.Failures,
			HungSince: c.HungSince, Runs: c.Runs, FailedRuns: c.FailedRuns, Duration: c.Duration.Seconds(), MaxAge: c.MaxAge.Seconds(),
		})
	}
	for _, h := range r.Heartbeats {
		d.Heartbeats = append(d.Heartbeats, Heartbeat{
			Name: d.words.clean(h.Name), Status: h.Status.String(), LastBeat: h.LastBeat, MaxAge: h.MaxAge.Seconds(),
		})
	}
}

func (d *documentOf) report(r *event.Report) *Report {
	if r == nil {
		return nil
	}
	out := &Report{
		Began: r.Began, Took: r.Took.Seconds(), Delay: r.Delay.Seconds(), Error: d.words.clean(text(r.Err)),
		Critical: d.words.cleanAll(r.Critical), Steps: make([]Step, 0, len(r.Steps)),
	}
	for _, s := range r.Steps {
		if s.Name == "" { // the barrier between ops components and the rest
			continue
		}
		out.Steps = append(out.Steps, Step{
			Name: d.words.clean(s.Name), Outcome: s.Outcome.String(), Began: s.Began, Took: s.Took.Seconds(),
			Drain: s.Drain.Seconds(), Error: d.words.clean(text(s.Err)),
		})
	}
	return out
}

// folded groups the holders of one pool that took their connections at the same place for the same
// purpose.
func (d *documentOf) folded(pool string, all []poolkeeper.Holder) []HolderGroup {
	type key struct{ kind, stack string }
	at := make(map[key]int)
	var groups []HolderGroup
	for _, h := range all {
		k := key{h.Kind, h.Stack}
		i, ok := at[k]
		if !ok {
			i, at[k] = len(groups), len(groups)
			groups = append(groups, HolderGroup{
				Pool: pool, Kind: d.words.clean(h.Kind), Oldest: h.Since, Stack: d.words.lines(h.Stack), At: d.words.site(h.Stack),
			})
		}
		groups[i].Count++
		if h.Since.Before(groups[i].Oldest) {
			groups[i].Oldest = h.Since
		}
	}
	slices.SortFunc(groups, func(a, b HolderGroup) int {
		return cmp.Or(a.Oldest.Compare(b.Oldest), cmp.Compare(a.At, b.At))
	})
	return groups
}
