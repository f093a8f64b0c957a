package isolation

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// round is the state of one call of Judge.
type round[K comparable] struct {
	*Group[K]

	now     time.Time
	keys    []K // in the order of the caller
	all     []*member
	changes []Change[K]
}

// round updates which servers exist and are fit, and scores them. It drops the samples of a server
// that is unfit, or has just become fit: they say nothing about it now.
func (g *Group[K]) round(now time.Time, all []Member[K]) *round[K] {
	r := &round[K]{Group: g, now: now}
	there := make(map[K]*member, len(all))
	for _, is := range all {
		m := g.member(is.Key, now)
		if there[is.Key] = m; !is.Fit || !m.fit {
			m.samples, m.under = nil, time.Time{}
		}
		m.fit, m.pinned = is.Fit, is.Pinned
		m.samples = m.samples.since(now, g.cfg.After)
		m.seen = m.samples.read()
		r.keys, r.all = append(r.keys, is.Key), append(r.all, m)
	}
	g.members = there
	for _, m := range r.all {
		m.Score, m.HasScore = 0, m.seen.known
		if m.HasScore {
			m.Score = Score(r.parts(m)...)
		}
	}
	return r
}

// serves reports whether m has its full part of the traffic.
func (m *member) serves() bool { return m.fit && m.State == Serving }

// parts are the parts of a server's score.
func (r *round[K]) parts(m *member) []Part {
	return []Part{
		{r.cfg.LatencyWeight, max(r.slowness(m.seen.poll, r.others(m, reading.pollTime)),
			r.slowness(m.seen.latency, r.others(m, reading.trafficTime)))},
		{r.cfg.ErrorWeight, m.seen.errorRatio / r.cfg.MaxErrorRatio},
		{r.cfg.SaturationWeight, m.seen.saturation},
	}
}

func (r reading) pollTime() time.Duration    { return r.poll }
func (r reading) trafficTime() time.Duration { return r.latency }

// others returns the median latency of the other serving servers, or 0 if none is known. Of two in
// the middle it returns the longer one, so that most servers cannot be slow beside the rest.
func (r *round[K]) others(m *member, latency func(reading) time.Duration) time.Duration {
	var of []time.Duration
	for _, o := range r.all {
		if d := latency(o.seen); o != m && o.serves() && d > 0 {
			of = append(of, d)
		}
	}
	if len(of) == 0 {
		return 0
	}
	slices.Sort(of)
	return of[len(of)/2]
}

// slowness returns the badness of a latency: beside that of the others, or by SlowLatency, whichever
// is worse. An others of 0 is not known.
func (r *round[K]) slowness(own, others time.Duration) float64 {
	bad := 0.0
	if others > 0 {
		base := float64(max(others, r.cfg.FastLatency))
		bad = (float64(own) - base) / (base * float64(r.cfg.SlowFactor-1))
	}
	if r.cfg.SlowLatency > 0 {
		bad = max(bad, float64(own)/float64(r.cfg.SlowLatency))
	}
	return bad
}

// worse reports whether m serves badly, while enough others serve clearly better.
func (r *round[K]) worse(m *member) bool {
	if m.pinned || !m.HasScore || m.Score >= r.cfg.MinScore {
		return false
	}
	better := 0
	for _, o := range r.all {
		if o != m && o.serves() && o.HasScore && o.Score >= m.Score+margin {
			better++
		}
	}
	return better >= r.cfg.MinServing
}

// release moves servers out of isolation and out of trials.
func (r *round[K]) release() {
	badly := !slices.ContainsFunc(r.all, func(m *member) bool {
		return m.serves() && (!m.HasScore || m.Score >= r.cfg.MinScore)
	})
	for i, m := range r.all {
		switch {
		case m.State == Serving:
		case m.pinned:
			r.move(i, Serving)
		case m.State == Trial:
			r.try(i)
		case m.fit && (!r.now.Before(m.due) || badly && !r.now.Before(m.soonest)):
			if r.worse(m) { // its polls say so already
				r.postpone(m)
				continue
			}
			m.samples, m.Score, m.HasScore = nil, 0, false
			r.move(i, Trial)
		}
	}
}

// try ends a trial that has failed or passed.
func (r *round[K]) try(i int) {
	m := r.all[i]
	switch {
	case !m.fit, r.worse(m):
		r.postpone(m)
		r.move(i, Isolated)
	case m.HasScore && r.now.Sub(m.Since) >= r.cfg.After:
		r.move(i, Serving)
	}
}

// isolate takes servers out of rotation, the worst first.
func (r *round[K]) isolate() {
	var due []int
	for i, m := range r.all {
		switch {
		case !m.serves():
		case !r.worse(m):
			m.under = time.Time{}
		case m.under.IsZero():
			m.under = r.now
		case m.seen.last.Sub(m.under) >= r.cfg.After: // silence is no proof
			due = append(due, i)
		}
	}
	slices.SortStableFunc(due, func(a, b int) int { return r.all[a].Score - r.all[b].Score })
	for _, i := range due {
		m := r.all[i]
		if !r.worse(m) { // the others have become fewer
			continue
		}
		if r.now.Sub(m.Since) > r.cfg.MaxRetry {
			m.failures = 0
		}
		r.postpone(m)
		r.move(i, Isolated)
	}
}

// postpone sets the next trial of a server that has just been found to serve badly.
func (r *round[K]) postpone(m *member) {
	m.failures++
	draw := r.draw()
	m.due, m.soonest = r.now.Add(r.pause(m.failures, draw)), r.now.Add(r.pause(1, draw))
	m.NextTrial, m.Why = m.due, r.why(m)
}

func (r *round[K]) move(i int, to State) {
	m := r.all[i]
	from := m.State
	m.State, m.Since, m.under = to, r.now, time.Time{}
	if to != Isolated {
		m.NextTrial = time.Time{}
	}
	if to == Serving {
		m.Why = ""
	}
	r.changes = append(r.changes, Change[K]{r.keys[i], from, to, m.Standing})
}

// why returns the parts that cost a server its score.
func (r *round[K]) why(m *member) string {
	if !m.fit {
		return "it could not serve during its trial"
	}
	parts := r.parts(m)
	var what []string
	if clamp(parts[0].Badness) > 0 && parts[0].Weight > 0 {
		what = append(what, r.whySlow("checks", m.seen.poll, r.others(m, reading.pollTime)),
			r.whySlow("requests", m.seen.latency, r.others(m, reading.trafficTime)))
	}
	if parts[1].Badness > 0 && parts[1].Weight > 0 {
		what = append(what, fmt.Sprintf("%.0f%% of the requests fail", 100*m.seen.errorRatio))
	}
	if parts[2].Badness > 0 && parts[2].Weight > 0 {
		what = append(what, fmt.Sprintf("%.0f%% of its connections are in use", 100*m.seen.saturation))
	}
	what = slices.DeleteFunc(what, func(s string) bool { return s == "" })
	return fmt.Sprintf("score %d, MinScore is %d: %s", m.Score, r.cfg.MinScore, strings.Join(what, ", "))
}

func (r *round[K]) whySlow(what string, own, others time.Duration) string {
	if clamp(r.slowness(own, others)) == 0 {
		return ""
	}
	text := fmt.Sprintf("%s take %s", what, rounded(own))
	if others > 0 {
		text += fmt.Sprintf(" and those of the others %s", rounded(others))
	}
	return text
}

// rounded leaves the two leading units of a duration.
func rounded(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
