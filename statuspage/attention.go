package statuspage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// soon is how long before its end an expiry becomes a notice.
const soon = 14 * 24 * time.Hour

// attention lists what an operator should look at, the worst first. It leaves out checks that fail
// because of another check, and lists that check.
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
		severity := SeverityError
		if c.Status == "warn" || c.Impact == "degrading" {
			severity = SeverityWarning
		}
		switch {
		case c.Status != "fail" && c.Status != "warn", len(c.CausedBy) > 0:
		default:
			verb := map[string]string{"fail": "failed", "warn": "warned"}[c.Status]
			text := "its check has " + verb + " for " + age(d.At, c.Since)
			if c.Error != "" {
				text += ": " + c.Error
			}
			note(severity, c.Name, c.Advice, "%s", text)
		}
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
	if !p.DownSince.IsZero() && health != "fail" { // a check that fails has said so
		note(SeverityError, p.Name, "look at the server; the pool tries it again by itself",
			"its server has been down for %s: callers fail at once", age(now, p.DownSince))
	}
	if p.Paused {
		note(SeverityWarning, p.Name, "call Resume once the planned work is done", "it is paused: callers wait")
	}
	if p.Max > 0 && p.InUse >= p.Max && p.Waiting > 0 {
		note(SeverityWarning, p.Name, "look for holders below before raising MaxOpen",
			"all %d connections are in use, and %s", p.Max, count(p.Waiting, "caller waits", "callers wait"))
	}
	if p.Recent.Timeouts > 0 {
		note(SeverityWarning, p.Name, "callers gave up: look at holders, and at how slow the server is",
			"%s in the last %s", count(int(p.Recent.Timeouts), "acquire timeout", "acquire timeouts"), seconds(p.Recent.Over)) //nolint:gosec // a minute's
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
	for _, w := range p.Fleet.warnings() {
		note(SeverityWarning, p.Name, "", "%s", w)
	}
	for i := range p.Members {
		m := &p.Members[i]
		if !m.InRotation && m.State != "" {
			note(SeverityWarning, p.Name, "", "%s serves no callers: %s", m.Name, m.State)
		}
		for _, w := range m.Fleet.warnings() {
			if p.Fleet == nil {
				note(SeverityWarning, p.Name, "", "%s: %s", m.Name, w)
			}
		}
	}
}

func (f *Fleet) warnings() []string {
	if f == nil {
		return nil
	}
	return f.Warnings
}
