package statuspage

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed assets/page.html
var pageHTML string

//go:embed assets/style.css
var styleCSS string

//go:embed assets/live.js
var liveJS string

// look holds the templates of the pages.
type look struct {
	*template.Template

	policy string // Content-Security-Policy: it names style and script by their hashes
}

func newLook() *look {
	t := template.Must(template.New("statuspage").Parse(pageHTML)) // a test makes every page
	return &look{t, "default-src 'none'; style-src " + hashOf(styleCSS) + "; script-src " + hashOf(liveJS) +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// moment is one moment of the service, and its pages. After renderLocked it does not change.
type moment struct {
	doc    *Document
	sample uint64
	json   func() []byte

	shape string // an open page of another shape has to be loaded anew
	parts []part // nil before renderLocked
	page  func() []byte
	all   func() []byte // all parts as events
}

// part is a piece of the page that is replaced as a whole.
type part struct {
	id   string
	html []byte
}

func newMoment(d *Document, sample uint64) *moment {
	return &moment{doc: d, sample: sample, json: sync.OnceValue(func() []byte { return encode(d) })}
}

// renderLocked makes the pages of m, unless that is done. Parts are made once for all viewers.
func (p *Page) renderLocked(m *moment) {
	if m.parts != nil {
		return
	}
	s := p.newScreen(m.doc)
	add := func(id, name string, data any) {
		m.parts = append(m.parts, part{id, p.look.make(name, data)})
	}
	add("overall", "overall", s)
	add("attention", "attention", s)
	if len(m.doc.Pools) > 0 {
		add("pools", "pools", s)
	}
	for i := range m.doc.Pools {
		id := "pool-" + strconv.Itoa(i)
		add(id, "pool", s.pool(i, id, p.past))
	}
	add("graph", "graph", s)
	add("checks", "checks", s)
	add("holders", "holders", s)
	if len(m.doc.Servers) > 0 {
		add("servers", "servers", s)
	}
	if len(m.doc.Streams) > 0 {
		add("streams", "streams", s)
	}
	add("events", "events", s)
	add("components", "components", s)
	add("reports", "reports", s)
	m.shape = fmt.Sprintf("%d-%d-%d-%d-%d", Version, p.process.Started.Nanosecond(), len(m.doc.Pools),
		min(len(m.doc.Servers), 1), min(len(m.doc.Streams), 1))
	m.all = sync.OnceValue(m.events)
	m.page = sync.OnceValue(func() []byte {
		s.Shape = m.shape
		for i := range m.parts {
			s.Parts = append(s.Parts, template.HTML(m.parts[i].html)) //nolint:gosec // made by the same templates
		}
		return p.look.make("page", s)
	})
}

// make executes a template. An error, which a test excludes, is shown in its place.
func (l *look) make(name string, data any) []byte {
	var b bytes.Buffer
	if err := l.ExecuteTemplate(&b, name, data); err != nil {
		return fmt.Appendf(nil, `<p class="empty">statuspage: this part cannot be shown: %s</p>`,
			template.HTMLEscapeString(err.Error()))
	}
	return b.Bytes()
}

// brief makes the page that every reader may see.
func (l *look) brief(d *Document) []byte {
	return l.make("brief", &screen{D: d, Style: template.CSS(styleCSS)}) //nolint:gosec // a constant
}

// screen is the data of the templates: the document, and its values in words.
type screen struct {
	D      *Document
	Style  template.CSS
	Script template.JS
	Parts  []template.HTML
	Shape  string

	window time.Duration
	folds  *folds
}

func (p *Page) newScreen(d *Document) *screen {
	return &screen{D: d, Style: template.CSS(styleCSS), Script: template.JS(liveJS), window: p.cfg.Window, folds: p.folds} //nolint:gosec // constants
}

// State is the overall state in a word or two.
func (s *screen) State() string {
	o := &s.D.Overall
	switch {
	case o.Phase == "new":
		return "Not started"
	case o.Phase == "starting":
		return "Starting"
	case o.Phase == "closing":
		return "Shutting down"
	case o.Phase == "closed":
		return "Stopped"
	case o.Live == "fail":
		return "Not live"
	case o.Ready == "pass":
		return "Ready"
	case o.Ready == "warn":
		return "Ready, degraded"
	}
	return "Not ready"
}

// Tone returns the look of the overall state.
func (s *screen) Tone() string {
	o := &s.D.Overall
	switch {
	case o.Phase == "new", o.Phase == "closed":
		return "off"
	case o.Phase != "up":
		return "busy"
	case o.Live == "fail", o.Ready == "fail":
		return "bad"
	case o.Ready == "warn":
		return "warn"
	}
	return "ok"
}

// Title is that of the window.
func (s *screen) Title() string {
	if s.D.Process.Name == "" {
		return s.State() + " – status"
	}
	return s.State() + " – " + s.D.Process.Name + " – status"
}

// Why returns the facts behind State.
func (s *screen) Why() string {
	o := &s.D.Overall
	text := "Registry " + o.Phase + " for " + s.Age(o.Since) + ". Readiness " + o.Ready + ", liveness " + o.Live + "."
	if o.Draining {
		text += " Draining."
	}
	return text
}

// Icon is the shape of a tone or a verdict.
func (s *screen) Icon(tone string) template.HTML { return iconSVG(tone) }

// SeverityTone is the tone of a notice.
func (s *screen) SeverityTone(severity string) string {
	if severity == SeverityError {
		return "bad"
	}
	return "warn"
}

// LevelTone is the tone of an event.
func (s *screen) LevelTone(level string) string {
	switch {
	case strings.HasPrefix(level, "ERROR"):
		return "bad"
	case strings.HasPrefix(level, "WARN"):
		return "warn"
	}
	return "info"
}

// Age returns the time since t in words.
func (s *screen) Age(t time.Time) string { return age(s.D.At, t) }

// Ago returns "5 s ago", "just now" or "never".
func (s *screen) Ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	if s.D.At.Sub(t) < time.Second {
		return "just now"
	}
	return s.Age(t) + " ago"
}

// Clock returns t as a time of day.
func (s *screen) Clock(t time.Time) string { return clock(s.D.At, t) }

// ISO returns t for machines.
func (s *screen) ISO(t time.Time) string { return t.Format(time.RFC3339) }

// Date returns t as a day and a time.
func (s *screen) Date(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

// Zone names the zone of all times.
func (s *screen) Zone() string { return s.D.At.Local().Format("MST") }

// Sec is a duration in words.
func (s *screen) Sec(d float64) string { return seconds(d) }

// Num is a count.
func (s *screen) Num(n uint64) string { return thousands(n) }

// Float is a rate.
func (s *screen) Float(f float64) string { return digits(f) }

// Window is the width of the charts.
func (s *screen) Window() string { return seconds(s.window.Seconds()) }
