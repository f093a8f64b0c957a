package statuspage

import (
	"errors"
	"log/slog"
	"slices"
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
	streams    *poolkeeper.StreamStats
	holders    []poolkeeper.Holder
	settings   []slog.Attr
	expiries   []poolkeeper.Expiry
	unanswered []string // the parts that are missing, and why
}

// interview calls the methods of components, which are code of others. A method that panics or ends its
// goroutine spoils only its component's part. A method that hangs is not called again until it has
// returned.
type interview struct{ calls guard.Calls }

// ask calls the methods of c: those for numbers, and with all the others too. It returns before
// deadline.
func (v *interview) ask(name string, c lifecycle.Component, all bool, deadline time.Time) answer {
	methods := methodsOf(c, all)
	if len(methods) == 0 {
		return answer{}
	}
	wait := min(patience, time.Until(deadline))
	if wait <= 0 {
		return answer{unanswered: []string{"not asked: other components used up the time"}}
	}
	var a answer
	var last string // the name of the method under way
	err := v.calls.Do(name, wait, func(step func(string)) {
		for _, m := range methods {
			last = m.name
			step(last)
			if err := guard.Catch(func() { m.call(&a) }); err != nil {
				a.unanswered = append(a.unanswered, last+": "+redact.Text(text(err)))
			}
		}
	})
	if _, hangs := errors.AsType[*guard.Hung](err); hangs {
		return answer{unanswered: []string{err.Error()}} // the call may still write to a
	}
	if err != nil { // it called runtime.Goexit
		a.unanswered = append(a.unanswered, last+" ended its goroutine")
	}
	return a
}

// method is one of a component's optional methods.
type method struct {
	name string
	call func(*answer) // it puts the result into the answer
}

// methodsOf returns the methods of c for numbers, and with all the others too.
func methodsOf(c lifecycle.Component, all bool) []method {
	var out []method
	add := func(name string, call func(*answer)) { out = append(out, method{name, call}) }
	if p, ok := c.(lifecycle.StatsProvider); ok {
		add("Stats", func(a *answer) { s := p.Stats(); a.stats = &s })
	}
	if p, ok := c.(lifecycle.ServerStatsProvider); ok {
		add("Stats", func(a *answer) { s := p.Stats(); a.server = &s })
	}
	if !all {
		return out
	}
	if p, ok := c.(lifecycle.StreamStatsProvider); ok {
		add("StreamStats", func(a *answer) { s := p.StreamStats(); a.streams = &s })
	}
	if p, ok := c.(lifecycle.HolderLister); ok {
		add("Holders", func(a *answer) { a.holders = slices.Clone(p.Holders()) })
	}
	if p, ok := c.(lifecycle.SettingsProvider); ok {
		add("Settings", func(a *answer) { a.settings = resolved(p.Settings()) })
	}
	if p, ok := c.(lifecycle.ExpiryProvider); ok {
		add("Expiries", func(a *answer) { a.expiries = slices.Clone(p.Expiries()) })
	}
	return out
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
