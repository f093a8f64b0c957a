package statuspage

import (
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/redact"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// patience is how long one component may take to answer, and allPatience all of them together.
const (
	patience    = 200 * time.Millisecond
	allPatience = time.Second
)

// answer holds the results of a component's methods. A field is nil if it lacks the method.
type answer struct {
	stats      *poolkeeper.Stats
	server     *poolkeeper.ServerStats
	holders    []poolkeeper.Holder
	settings   []slog.Attr
	expiries   []poolkeeper.Expiry
	unanswered []string // what is missing, and why
}

// interview calls the methods of components, which are code of others. A method that panics or ends its
// goroutine spoils only its component's part. A method that hangs is not called again until it has
// returned. The caller locks.
type interview struct {
	hung map[string]*call // by component
}

// call is one goroutine that calls a component's methods.
type call struct {
	began  time.Time
	method atomic.Pointer[string] // the one under way
	done   chan answer            // 1 buffered
}

func newInterview() *interview { return &interview{hung: make(map[string]*call)} }

// ask calls the methods of c: those for numbers, and with all the others too. It returns before
// deadline.
func (v *interview) ask(name string, c lifecycle.Component, all bool, deadline time.Time) answer {
	if h := v.hung[name]; h != nil {
		select {
		case <-h.done:
			delete(v.hung, name)
		default:
			return h.late()
		}
	}
	if !askable(c) {
		return answer{}
	}
	wait := min(patience, time.Until(deadline))
	if wait <= 0 {
		return answer{unanswered: []string{"not asked: other components used up the time"}}
	}
	h := &call{began: time.Now(), done: make(chan answer, 1)}
	// Owner: the interview, which takes its answer. It ends with the component's methods; for one
	// that hangs nobody can wait, so it is named on the page.
	go h.run(c, all)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case a := <-h.done:
		return a
	case <-timer.C:
		v.hung[name] = h
		return h.late()
	}
}

func (h *call) late() answer {
	method := "it"
	if m := h.method.Load(); m != nil {
		method = *m
	}
	age := time.Since(h.began).Round(100 * time.Millisecond)
	return answer{unanswered: []string{fmt.Sprintf("%s does not return, called %s ago", method, age)}}
}

// askable reports whether c has a method that ask calls.
func askable(c lifecycle.Component) bool {
	switch c.(type) {
	case lifecycle.StatsProvider, lifecycle.ServerStatsProvider, lifecycle.HolderLister,
		lifecycle.SettingsProvider, lifecycle.ExpiryProvider:
		return true
	default:
		return false
	}
}

func (h *call) run(c lifecycle.Component, all bool) {
	var a answer
	finished := false
	defer func() {
		if !finished { // the component called runtime.Goexit
			a.unanswered = append(a.unanswered, *h.method.Load()+" ended its goroutine")
		}
		h.done <- a
	}()
	ask := func(method string, f func()) {
		h.method.Store(&method)
		if err := guard.Catch(f); err != nil {
			a.unanswered = append(a.unanswered, method+": "+redact.Text(text(err)))
		}
	}
	if p, ok := c.(lifecycle.StatsProvider); ok {
		ask("Stats", func() { s := p.Stats(); a.stats = &s })
	}
	if p, ok := c.(lifecycle.ServerStatsProvider); ok {
		ask("Stats", func() { s := p.Stats(); a.server = &s })
	}
	if p, ok := c.(lifecycle.HolderLister); ok && all {
		ask("Holders", func() { a.holders = slices.Clone(p.Holders()) })
	}
	if p, ok := c.(lifecycle.SettingsProvider); ok && all {
		ask("Settings", func() { a.settings = resolved(p.Settings()) })
	}
	if p, ok := c.(lifecycle.ExpiryProvider); ok && all {
		ask("Expiries", func() { a.expiries = slices.Clone(p.Expiries()) })
	}
	finished = true
}

// resolved runs the code of slog.LogValuers, which is the component's too.
func resolved(attrs []slog.Attr) []slog.Attr {
	out := slices.Clone(attrs)
	for i := range out {
		out[i].Value = out[i].Value.Resolve()
		if out[i].Value.Kind() == slog.KindGroup {
			out[i].Value = slog.GroupValue(resolved(out[i].Value.Group())...)
		} else {
			out[i].Value = slog.StringValue(out[i].Value.String())
		}
	}
	return out
}

// text returns the text of err, whose Error method may panic.
func text(err error) string {
	if err == nil {
		return ""
	}
	out := "an error whose text cannot be made"
	_ = guard.Catch(func() { out = err.Error() })
	return out
}
