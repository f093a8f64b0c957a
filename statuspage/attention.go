package statuspage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/plural"
)

// soon is how long before its end an expiry becomes a notice.
const soon = 14 * 24 * time.Hour

// attention returns the notices for the operator, the worst first. It leaves out a check that fails
// because of another check. That check has a notice of its own.
func attention(d *Document) []Notice {
	var out []Notice
	note := func(severity, name, advice, format string, args ...any) {
		out = append(out, Notice{Severity: severity, Component: name, Advice: advice, Text: fmt.Sprintf(format, args...)})
	}
	attendChecks(d, note)
	health := make(map[string]string, len(d.Components))
	for i := range d.Components {
		c := &d.Components[i]
		health[c.Name] = c.Health
		attendComponent(d.At, c, note)
	}
	for i := range d.Pools {
		attendPool(d.At, &d.Pools[i], health[d.Pools[i].Name], note)
	}
	slices.SortStableFunc(out, func(a, b Notice) int { return cmp.Compare(a.Severity, b.Severity) }) // "error" < "warning"
	return out
}

// notify adds a notice.
type notify func(severity, name, advice, format string, args ...any)

func attendChecks(d *Document, note notify) {
	for i := range d.Checks {
		c := &d.Checks[i]
		verb := map[string]string{"fail": "failed", "warn": "warned"}[c.Status]
		if verb == "" || len(c.CausedBy) > 0 {
			continue
		}
		severity := SeverityError
		if c.Status == "warn" || c.Impact == "degrading" {
			severity = SeverityWarning
		}
		text := "its check has " + verb + " for " + age(d.At, c.Since)
		if c.Error != "" {
			text += ": " + c.Error
		}
		note(severity, c.Name, c.Advice, "%s", text)
	}
	for _, h := range d.Heartbeats {
		if h.Status == "fail" {
			note(SeverityError, h.Name, "the loop hangs or has ended: look at its goroutine in a goroutine dump",
				"no heartbeat for %s, longer than %s", age(d.At, h.LastBeat), seconds(h.MaxAge))
		}
	}
}

func attendComponent(now time.Time, c *Component, note notify) {
	what := map[string]string{"dead": "it died", "failed": "it did not start", "abandoned": "it was abandoned"}[c.State]
	switch {
	case what == "":
	case c.Error == "":
		note(SeverityError, c.Name, "", "%s", what)
	default:
		note(SeverityError, c.Name, "", "%s: %s", what, c.Error)
	}
	for _, e := range c.Expiries {
		subject := ""
		if e.Subject != "" {
			subject = " of " + e.Subject
		}
		words := strings.ReplaceAll(e.Kind, "-", " ")
		switch left := e.NotAfter.Sub(now); {
		case left <= 0:
			note(SeverityError, c.Name, "renew it", "%s%s: expired %s ago", words, subject, age(now, e.NotAfter))
		case left < soon:
			note(SeverityWarning, c.Name, "renew it", "%s%s: expires in %s", words, subject, age(e.NotAfter, now))
		}
	}
	for _, u := range c.Unanswered {
		note(SeverityWarning, c.Name, "its code panicked or hangs: its part below is incomplete", "%s", u)
	}
}

func attendPool(now time.Time, p *Pool, health string, note notify) {
	if !p.DownSince.IsZero() && health != "fail" { // the notice of its check says so
		note(SeverityError, p.Name, "look at the server; the pool tries it again by itself",
			"its server has been down for %s: callers fail at once", age(now, p.DownSince))
	}
	if p.Paused {
		note(SeverityWarning, p.Name, "call Resume once the planned work is done", "it is paused: callers wait")
	}
	if p.Max > 0 && p.InUse >= p.Max && p.Waiting > 0 {
		note(SeverityWarning, p.Name, "look for holders below before raising MaxOpen",
			"all %d connections are in use, with %s waiting", p.Max, plural.Of(p.Waiting, "caller"))
	}
	if p.Recent.Timeouts > 0 {
		note(SeverityWarning, p.Name, "callers gave up: look at holders, and at how slow the server is",
			"%s in the last %s", plural.Of(int(p.Recent.Timeouts), "acquire timeout"), seconds(p.Recent.Over)) //nolint:gosec // a minute's
	}
	if p.LeakThreshold > 0 && p.OldestHold >= p.LeakThreshold {
		note(SeverityWarning, p.Name, "see Holders below for the file and line: is it released on every path?",
			"a connection is held for %s, longer than LeakThreshold %s", seconds(p.OldestHold), seconds(p.LeakThreshold))
	}
	if p.SweepLate > 0 {
		note(SeverityWarning, p.Name, "eviction is stuck: look at its goroutine in a goroutine dump",
			"eviction is overdue by %s", seconds(p.SweepLate))
	}
	attendServers(p, note)
}

// attendServers adds the notices on the servers of a pool.
func attendServers(p *Pool, note notify) {
	for i := range p.Members {
		switch m := &p.Members[i]; {
		case m.Isolated:
			what := "is on trial"
			if m.NextTrial != nil {
				what = "is isolated until a trial at " + m.NextTrial.UTC().Format(time.TimeOnly) + " UTC"
			}
			note(SeverityWarning, p.Name, "it serves worse than the others: look at its load, its disks and the network to it",
				"%s %s: %s", m.Name, what, m.Why)
		case !m.InRotation && m.State != "":
			note(SeverityWarning, p.Name, "", "%s serves no callers: %s", m.Name, m.State)
		}
	}
	for _, f := range fleetsOf(p) {
		for _, w := range f.Warnings {
			if f.member != "" {
				w = f.member + ": " + w
			}
			note(SeverityWarning, p.Name, "", "%s", w)
		}
	}
}

// fleetOf is the comparison with the limit of one server.
type fleetOf struct {
	*Fleet

	member string // empty: the pool's only server
}

// Title returns the heading of the comparison.
func (f fleetOf) Title() string {
	if f.member == "" {
		return "Server's limit"
	}
	return "Limit of " + f.member
}

// fleetsOf returns the comparisons of p's members. If they have none, it returns that of p. With
// members, that of p is a copy of the tightest one.
func fleetsOf(p *Pool) []fleetOf {
	var out []fleetOf
	for i := range p.Members {
		if m := &p.Members[i]; m.Fleet != nil {
			out = append(out, fleetOf{m.Fleet, m.Name})
		}
	}
	if len(out) == 0 && p.Fleet != nil {
		out = append(out, fleetOf{p.Fleet, ""})
	}
	return out
}
