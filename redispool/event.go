package redispool

import (
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/event"
)

// newEvents returns the log of what happens to the pool.
func (p *Pool) newEvents() *event.Log {
	return event.NewLog("redispool", p.poolName, func() *slog.Logger { return p.config().Logger }, explainEvent)
}

// explainEvent names the cause of an event and what to look at first.
func explainEvent(err error) (cause, advice string) {
	f := Classify(err)
	return string(f.Kind), f.Advice
}

// reset says that connections of a node are replaced.
func (n *node) reset(why string, connections, cut int) {
	attrs := []slog.Attr{slog.String("node", n.addr())}
	if cut > 0 {
		attrs = append(attrs, slog.Int("cut", cut))
	}
	n.pool.events.Emit(event.OfReset(why, connections, nil, attrs...))
}

// trouble says that the pool could not do a part of its own work.
func (p *Pool) trouble(text string, err error, attrs ...slog.Attr) {
	p.events.Emit(event.Event{Kind: event.Trouble, Level: slog.LevelWarn, Text: text, Err: err, Attrs: attrs})
}
