package watch

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

const (
	mostHolders = 8
	mostEvents  = 10
)

// view draws a document as text.
type view struct {
	styles  term.Styles
	columns int
	b       strings.Builder
}

// String returns what has been drawn.
func (v *view) String() string { return v.b.String() }

// line writes one line, cut to the width of the screen. Styles take no column: style is applied
// after the cut.
func (v *view) line(style func(string) string, format string, args ...any) {
	text := strings.TrimRight(term.Printable(fmt.Sprintf(format, args...)), " ")
	if utf8.RuneCountInString(text) > v.columns && v.columns > 1 {
		text = string([]rune(text)[:v.columns-1]) + "…"
	}
	if style != nil {
		text = style(text)
	}
	v.b.WriteString(text + "\n")
}

// away says that the service cannot be reached, so that the document below is old.
func (v *view) away(place string, err error, since, interval time.Duration) {
	v.line(v.styles.Bad, "%s has not answered for %s:", place, age(since))
	v.line(v.styles.Bad, "  %v", err)
	v.line(v.styles.Faint, "trying again every %s; the rest is its last answer, if it has given any", interval)
	v.line(nil, "")
}

// document draws all parts that the reader may see.
func (v *view) document(d *statuspage.Document) {
	v.head(d)
	if !d.Details {
		v.line(v.styles.Faint, "The service shows no details to this reader: see --token-env, and statuspage.Config.Allow.")
		return
	}
	v.attention(d)
	v.pools(d)
	v.servers(d)
	v.checks(d)
	v.components(d)
	v.holders(d)
	v.events(d)
}

func (v *view) head(d *statuspage.Document) {
	o := d.Overall
	name := "service"
	if p := d.Process; p.Name != "" {
		name = strings.TrimSpace(p.Name + " " + p.Version)
		if p.Host != "" {
			name += fmt.Sprintf(" on %s, pid %d", p.Host, p.PID)
		}
	}
	state := fmt.Sprintf("%s for %s, ready %s, live %s", o.Phase, age(d.At.Sub(o.Since)), o.Ready, o.Live)
	if o.Draining {
		state += ", draining"
	}
	v.line(v.styles.Bold, "%s", name)
	v.line(v.of(o.Ready), "%s", state)
	if o.Reason != "" {
		v.line(v.of(o.Ready), "  %s", o.Reason)
	}
	if o.Advice != "" {
		v.line(nil, "  %s", o.Advice)
	}
}

// of returns the style for a status.
func (v *view) of(status string) func(string) string {
	switch status {
	case "pass", "up":
		return v.styles.Good
	case "warn", "draining", "starting":
		return v.styles.Warning
	case "fail", "dead", "failed", "abandoned":
		return v.styles.Bad
	default:
		return v.styles.Faint
	}
}

func (v *view) title(format string, args ...any) {
	v.line(nil, "")
	v.line(v.styles.Bold, format, args...)
}

func (v *view) attention(d *statuspage.Document) {
	if len(d.Attention) == 0 {
		return
	}
	v.title("ATTENTION")
	for _, n := range d.Attention {
		style := v.styles.Warning
		if n.Severity == statuspage.SeverityError {
			style = v.styles.Bad
		}
		v.line(style, "  %-8s %-16s %s", n.Severity, n.Component, n.Text)
		if n.Advice != "" {
			v.line(nil, "  %-8s %-16s %s", "", "", n.Advice)
		}
	}
}

func (v *view) pools(d *statuspage.Document) {
	if len(d.Pools) == 0 {
		return
	}
	v.title("%-18s %5s %5s %6s %5s %7s %9s %9s %8s %s", "POOLS", "max", "open", "in use", "idle", "waiting", "wait p50", "wait p99", "oldest", "")
	for _, p := range d.Pools {
		v.pool(p.Name, p.PoolFigures, seconds(p.Recent.AcquireP50), seconds(p.Recent.AcquireP99), d.At)
		for _, m := range p.Members {
			role := "  " + m.Name
			if m.Primary {
				role += " (primary)"
			}
			v.pool(role, m.PoolFigures, "", "", d.At)
		}
	}
}

func (v *view) pool(name string, f statuspage.PoolFigures, p50, p99 string, now time.Time) {
	style, note := v.styles.Good, ""
	switch {
	case !f.DownSince.IsZero():
		style, note = v.styles.Bad, "down for "+age(now.Sub(f.DownSince))
	case f.Paused:
		style, note = v.styles.Warning, "paused"
	case f.Waiting > 0:
		style = v.styles.Warning
	case f.InUse == 0:
		style = nil
	}
	v.line(style, "%-18s %5d %5d %6d %5d %7d %9s %9s %8s %s",
		name, f.Max, f.Open, f.InUse, f.Idle, f.Waiting, p50, p99, seconds(f.OldestHold), note)
}

func (v *view) servers(d *statuspage.Document) {
	if len(d.Servers) == 0 {
		return
	}
	v.title("%-18s %9s %7s %11s %10s %9s", "SERVERS", "in flight", "streams", "connections", "requests/s", "refused")
	for _, s := range d.Servers {
		v.line(nil, "%-18s %9d %7d %11d %10.1f %9d", s.Name, s.InFlight, s.Streams, s.Connections, s.Rate, s.Refused)
	}
}

func (v *view) checks(d *statuspage.Document) {
	if len(d.Checks)+len(d.Heartbeats) == 0 {
		return
	}
	v.title("%-18s %-8s %8s", "CHECKS", "status", "for")
	for _, c := range d.Checks {
		v.line(v.of(c.Status), "%-18s %-8s %8s  %s", c.Name, c.Status, age(d.At.Sub(c.Since)), c.Error)
		if c.Advice != "" && c.Status != "pass" {
			v.line(nil, "%-18s %-8s %8s  %s", "", "", "", c.Advice)
		}
	}
	for _, h := range d.Heartbeats {
		v.line(v.of(h.Status), "%-18s %-8s %8s  last beat", h.Name, h.Status, age(d.At.Sub(h.LastBeat)))
	}
}

func (v *view) components(d *statuspage.Document) {
	if len(d.Components) == 0 {
		return
	}
	v.title("%-18s %-10s %8s", "COMPONENTS", "state", "for")
	for _, c := range d.Components {
		after := ""
		if len(c.DependsOn) > 0 {
			after = "needs " + strings.Join(c.DependsOn, ", ")
		}
		v.line(v.of(c.State), "%-18s %-10s %8s  %s", c.Name, c.State, age(d.At.Sub(c.Since)), cmp.Or(c.Error, after))
	}
}

func (v *view) holders(d *statuspage.Document) {
	if len(d.Holders) == 0 {
		return
	}
	v.title("%-18s %-8s %6s %8s", "HOLDERS", "kind", "count", "oldest")
	for i, h := range d.Holders {
		if i == mostHolders {
			v.line(v.styles.Faint, "… and %d more places", len(d.Holders)-i)
			break
		}
		v.line(nil, "%-18s %-8s %6d %8s  %s", h.Pool, h.Kind, h.Count, age(d.At.Sub(h.Oldest)), h.At)
	}
}

func (v *view) events(d *statuspage.Document) {
	if len(d.Events) == 0 {
		return
	}
	v.title("EVENTS")
	for i, e := range d.Events {
		if i == mostEvents {
			break
		}
		text := e.Text
		if e.Error != "" {
			text += ": " + e.Error
		}
		style := v.styles.Faint
		switch e.Level {
		case "ERROR":
			style = v.styles.Bad
		case "WARN":
			style = v.styles.Warning
		}
		v.line(style, "%8s ago  %-16s %s", age(d.At.Sub(e.Time)), e.Component, text)
	}
}

// age prints a time that has passed by its two largest units.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// seconds prints a duration of the document; "" if it is 0.
func seconds(s float64) string {
	switch {
	case s <= 0:
		return ""
	case s < 0.01:
		return fmt.Sprintf("%.2f ms", s*1000)
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 60:
		return fmt.Sprintf("%.1f s", s)
	default:
		return age(time.Duration(s * float64(time.Second)))
	}
}
