package statuspage

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/redact"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// journal keeps the last events of a registry.
type journal struct {
	mu   sync.Mutex     // guards the following
	ring []func() Event // each returns the event as it is shown, made when first needed
	next int            // the place of the oldest once the ring is full
}

func newJournal(size int) *journal { return &journal{ring: make([]func() Event, 0, size)} }

// add runs on a goroutine of the registry. It calls no method of the error in e.
func (j *journal) add(e event.Event) {
	n := sync.OnceValue(func() Event {
		out := Event{Time: e.Details().Time, Kind: kindOf(e), Text: "an event that cannot be described"}
		_ = guard.Catch(func() { out = described(e) })
		return out
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.ring) < cap(j.ring) {
		j.ring = append(j.ring, n)
		return
	}
	j.ring[j.next] = n
	j.next = (j.next + 1) % len(j.ring)
}

// newestFirst returns the events kept, as they are shown.
func (j *journal) newestFirst() []Event {
	j.mu.Lock()
	all := append(slices.Clone(j.ring[j.next:]), j.ring[:j.next]...)
	j.mu.Unlock()
	out := make([]Event, len(all))
	for i, e := range all {
		out[len(all)-1-i] = e()
	}
	return out
}

// described returns e as the page shows it. It runs methods of the error in e.
func described(e event.Event) Event {
	i := e.Details()
	out := Event{Time: i.Time, Component: redact.Text(i.Name), Level: event.Level(e).String()}
	switch e := e.(type) {
	case *event.Pool:
		out.Kind, out.Text, out.Skipped = redact.Text(string(e.Event.Kind)), e.Event.Text, e.Event.Skipped
		out.Advice = e.Event.Advice
		if e.Event.Pool != "" { // "orders/primary", of a replicated pool
			out.Component = redact.Text(e.Event.Pool)
		}
		if e.Event.Holder != nil {
			out.Text += " (" + e.Event.Holder.Describe(e.Event.Time) + ")"
		}
	case *event.Health:
		out.Kind, out.Text = "health", "check: "+e.Transition.From.String()+" → "+e.Transition.To.String()
		out.Advice = e.Transition.Fault.Advice
	default:
		out.Kind, out.Text = kindOf(e), withoutName(e)
		if i.Err != nil {
			out.Advice = health.Classify(i.Err).Advice
		}
	}
	out.Text, out.Advice = redact.Text(out.Text), redact.Text(out.Advice)
	if i.Err != nil {
		out.Error = redact.Text(text(i.Err))
	}
	return out
}

// withoutName is the sentence of e without the name of its component, which has a column of its own.
func withoutName(e event.Event) string {
	text := e.String()
	if _, rest, quoted := strings.Cut(text, `" `); quoted && e.Details().Name != "" && text[0] == '"' {
		text = rest
	}
	return text
}

// kindOf is the name of e's type as words: "shutting-down".
func kindOf(e event.Event) string {
	var b strings.Builder
	for i, r := range reflect.TypeOf(e).Elem().Name() {
		if unicode.IsUpper(r) {
			if i > 0 {
				b.WriteByte('-')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}
