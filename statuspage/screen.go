package statuspage

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/plural"
)

// manyPools is the number of pools from which the page has a table of them.
const manyPools = 4

// shownNotices bounds the notices on the page; the JSON has all.
const shownNotices = 30

// Notices returns the first notices.
func (s *screen) Notices() []Notice { return s.D.Attention[:min(len(s.D.Attention), shownNotices)] }

// MoreNotices returns how many notices the page leaves out.
func (s *screen) MoreNotices() int { return len(s.D.Attention) - len(s.Notices()) }

// Many reports whether a table of all pools helps.
func (s *screen) Many() bool { return len(s.D.Pools) >= manyPools }

// InUse returns the number of connections in use, of all pools.
func (s *screen) InUse() string {
	sum := 0
	for i := range s.D.Pools {
		sum += s.D.Pools[i].InUse
	}
	return plural.Of(sum, "connection")
}

// Limit is a limit that may not be known.
func (s *screen) Limit(most int) string {
	if most == 0 {
		return "–"
	}
	return strconv.Itoa(most)
}

// Hold is the age of a hold, which may not be there.
func (s *screen) Hold(d float64) string {
	if d == 0 {
		return "–"
	}
	return seconds(d)
}

// Latency returns a quantile of r, or a dash if nothing was measured.
func (s *screen) Latency(r Recent, d float64) string {
	if r.Measured == 0 {
		return "–"
	}
	return seconds(d)
}

// Lag is how far a replica is behind.
func (s *screen) Lag(d *float64) string {
	if d == nil {
		return "–"
	}
	return seconds(*d)
}

// MemberTone is how a member looks.
func (s *screen) MemberTone(m Member) string {
	switch {
	case !m.DownSince.IsZero():
		return "bad"
	case !m.InRotation, m.Isolated:
		return "warn"
	}
	return "ok"
}

// MemberState is the state of a member in words.
func (s *screen) MemberState(m Member) string {
	state := cmp.Or(m.State, "in use")
	if m.Score != nil {
		state += fmt.Sprintf(", score %d", *m.Score)
	}
	if !m.InRotation {
		state += ", serves no callers"
	}
	return state
}

func (s *screen) component(name string) *Component {
	for i := range s.D.Components {
		if s.D.Components[i].Name == name {
			return &s.D.Components[i]
		}
	}
	return &Component{Name: name, State: "added"}
}

// PoolTone is how the pool at i looks.
func (s *screen) PoolTone(i int) string {
	p := &s.D.Pools[i]
	look := tone(s.component(p.Name))
	switch {
	case look == "ok" && !p.DownSince.IsZero():
		return "bad"
	case look == "ok" && (p.Paused || p.LeakThreshold > 0 && p.OldestHold >= p.LeakThreshold):
		return "warn"
	}
	return look
}

// ToneAt is how the component at i looks.
func (s *screen) ToneAt(i int) string { return tone(&s.D.Components[i]) }

// StateAt is the state of the component at i.
func (s *screen) StateAt(i int) string { return stateText(&s.D.Components[i]) }

// poolScreen is one pool.
type poolScreen struct {
	*screen

	ID       string
	P        *Pool
	C        *Component
	Tone     string
	Charts   []chart
	Settings template.HTML
}

func (s *screen) pool(i int, id string, past *history) *poolScreen {
	p := &s.D.Pools[i]
	c := s.component(p.Name)
	of := past.span(p.Name, s.D.At, s.window)
	return &poolScreen{
		screen: s, ID: id, P: p, C: c, Tone: s.PoolTone(i), Charts: of.charts(), Settings: s.folds.settings(id, "Settings in effect", c),
	}
}

// StateText is the state of the pool's component.
func (s *poolScreen) StateText() string { return stateText(s.C) }

// Bar shows how much of the pool is in use and idle.
func (s *poolScreen) Bar() template.HTML {
	most := max(s.P.Max, s.P.Open, 1)
	inUse := 100 * float64(s.P.InUse) / float64(most)
	idle := 100 * float64(s.P.Idle) / float64(most)
	return template.HTML(fmt.Sprintf( //nolint:gosec // numbers
		`<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">`+
			`<path class="s" d="M0 0H%s V1H0Z"/><path class="b" d="M0 0H%s V1H0Z"/></svg>`, number(min(inUse+idle, 100)), number(min(inUse, 100)),
	))
}

// Fleets returns the comparisons with the limits of the pool's servers.
func (s *poolScreen) Fleets() []fleetOf { return fleetsOf(s.P) }

// titledError is the last dial error of one server.
type titledError struct {
	*PoolFigures

	Title string
}

// DialErrors are the last ones: of each server of a replicated pool, or of the pool.
func (s *poolScreen) DialErrors() []titledError {
	var out []titledError
	for i := range s.P.Members {
		if m := &s.P.Members[i]; m.LastDialError != "" {
			out = append(out, titledError{&m.PoolFigures, "Last dial error of " + m.Name})
		}
	}
	if len(out) == 0 && s.P.LastDialError != "" {
		out = append(out, titledError{&s.P.PoolFigures, "Last dial error"})
	}
	return out
}

// Acquired returns a number of acquisitions and its label. A pool that does not count all acquisitions
// counts those that had to wait.
func (s *poolScreen) Acquired() Setting {
	if s.P.Acquired == 0 && s.P.WaitCount > 0 {
		return Setting{"Had to wait, last min", thousands(s.P.Recent.Measured)}
	}
	return Setting{"Acquired, last min", thousands(s.P.Recent.Acquired)}
}

// Counters are the totals of the pool.
func (s *poolScreen) Counters() []Setting {
	p := &s.P.PoolFigures
	waited := "0"
	if p.WaitCount > 0 {
		waited = thousands(p.WaitCount) + ", " + seconds(p.WaitTotal/float64(p.WaitCount)) + " on average"
	}
	out := []Setting{
		{"Acquisitions that had to wait", waited},
		{"Acquire timeouts", thousands(p.AcquireTimeouts)},
		{"Acquisitions refused at once", thousands(p.Refused)},
		{"Connections opened", thousands(p.Dials)},
		{"Failed attempts to open one", thousands(p.DialErrors)},
		{"Held longer than LeakThreshold", thousands(p.Leaks)},
		{"Taken away from holders", thousands(p.Reclaimed)},
		{"Times all connections were replaced", thousands(p.Generation)},
	}
	for _, reason := range slices.Sorted(maps.Keys(p.Evicted)) {
		out = append(out, Setting{"Closed: " + reason, thousands(p.Evicted[reason])})
	}
	return out
}

// Graph is the picture of the components.
func (s *screen) Graph() template.HTML { return picture(s.D.Components) }

// NoGraph says why there is none.
func (s *screen) NoGraph() string {
	if len(s.D.Components) > maxGraph {
		return fmt.Sprintf("%d components are too many for a picture; see the table of components.", len(s.D.Components))
	}
	return "No component depends on another."
}

// TooLong reports whether a hold is longer than the pool's LeakThreshold.
func (s *screen) TooLong(h HolderGroup) bool {
	for i := range s.D.Pools {
		if p := &s.D.Pools[i]; p.Name == h.Pool && p.LeakThreshold > 0 {
			return s.D.At.Sub(h.Oldest).Seconds() >= p.LeakThreshold
		}
	}
	return false
}

// expiryRow is an expiry and its component.
type expiryRow struct {
	Expiry

	Component, Words, Tone string
}

// Expiries are those of all components, the first to expire first.
func (s *screen) Expiries() []expiryRow {
	var rows []expiryRow
	for i := range s.D.Components {
		for _, e := range s.D.Components[i].Expiries {
			look := "ok"
			switch left := e.NotAfter.Sub(s.D.At); {
			case left <= 0:
				look = "bad"
			case left < soon:
				look = "warn"
			}
			rows = append(rows, expiryRow{e, s.D.Components[i].Name, strings.ReplaceAll(e.Kind, "-", " "), look})
		}
	}
	slices.SortStableFunc(rows, func(a, b expiryRow) int { return a.NotAfter.Compare(b.NotAfter) })
	return rows
}

// Left is the time until t.
func (s *screen) Left(t time.Time) string {
	if !t.After(s.D.At) {
		return "expired"
	}
	return age(t, s.D.At)
}

// OtherSettings are those of components that are no pools.
func (s *screen) OtherSettings() []template.HTML {
	pools := make(map[string]bool, len(s.D.Pools))
	for i := range s.D.Pools {
		pools[s.D.Pools[i].Name] = true
	}
	var out []template.HTML
	for i := range s.D.Components {
		if c := &s.D.Components[i]; len(c.Settings) > 0 && !pools[c.Name] {
			out = append(out, s.folds.settings("component-"+strconv.Itoa(i), "Settings of "+c.Name, c))
		}
	}
	return out
}

// folds caches the HTML of components' settings: they seldom change, and are the larger part of a
// page. Page.work guards it.
type folds struct {
	look *look
	made map[string]fold // by id
}

type fold struct {
	title, name string
	of          []Setting
	html        template.HTML
}

// settings returns the settings of c as a part that the reader can open.
func (f *folds) settings(id, title string, c *Component) template.HTML {
	if len(c.Settings) == 0 {
		return ""
	}
	if had, ok := f.made[id]; ok && had.title == title && had.name == c.Name && slices.Equal(had.of, c.Settings) {
		return had.html
	}
	html := template.HTML(f.look.make("settings", struct { //nolint:gosec // made by a template
		ID, Title, Name string
		Settings        []Setting
	}{id, title, c.Name, c.Settings}))
	f.made[id] = fold{title, c.Name, c.Settings, html}
	return html
}

// reportScreen is a report and its steps, as the page shows them.
type reportScreen struct {
	Title, Critical string
	R               *Report
	Steps           []stepScreen
}

type stepScreen struct {
	Step

	Tone, After string
	Bar         template.HTML
}

// NoReport says why there is no report.
func (s *screen) NoReport() string {
	if s.D.Overall.Phase == "new" {
		return "The registry has not been started."
	}
	return "The start is under way."
}

// Reports are the shutdown's and the start's, as far as they are over.
func (s *screen) Reports() []reportScreen {
	var out []reportScreen
	for _, r := range []struct {
		title  string
		report *Report
	}{{"Shutdown", s.D.Shutdown}, {"Start", s.D.Start}} {
		if r.report != nil {
			out = append(out, newReportScreen(r.title, r.report))
		}
	}
	return out
}

func newReportScreen(title string, r *Report) reportScreen {
	out := reportScreen{Title: title, Critical: strings.Join(r.Critical, " → "), R: r}
	for _, step := range r.Steps {
		v := stepScreen{Step: step, Tone: "ok", After: "–"}
		switch step.Outcome {
		case "failed", "aborted", "abandoned", "held":
			v.Tone = "bad"
		case "none":
			v.Tone = "off"
		}
		if !step.Began.IsZero() {
			after := step.Began.Sub(r.Began).Seconds()
			v.After = "+" + seconds(after)
			v.Bar = stepBar(after, step, max(r.Took, 1e-9))
		}
		out.Steps = append(out.Steps, v)
	}
	return out
}

// stepBar is a step on the timeline of its report: the lighter part is draining.
func stepBar(after float64, step Step, whole float64) template.HTML {
	part := func(d float64) float64 { return 100 * min(max(d/whole, 0), 1) }
	from, drained, to := part(after), part(after+step.Drain), part(after+step.Took)
	return template.HTML(fmt.Sprintf( //nolint:gosec // numbers
		`<svg class="step" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><path class="o" d="M0 3.5H100V4.5H0Z"/>`+
			`<path class="s" d="M%[1]s 0H%[2]s V8H%[1]sZ"/><path class="b" d="M%[2]s 0H%[3]s V8H%[2]sZ"/></svg>`,
		number(from), number(drained), number(max(to, drained+0.8)),
	))
}
