package sqlpool

import (
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// newEvents returns the log of what happens to the pool.
func (c *base) newEvents() *event.Log {
	return event.NewLog("sqlpool", c.poolName, func() *slog.Logger { return c.cfg().Logger }, explainEvent)
}

// explainEvent names the cause of an event and what to look at first.
func explainEvent(err error) (cause, advice string) {
	f := fault.Classify(err)
	return string(f.Kind), f.Advice
}

// open is how many connections the pool has now.
func (m *manager) open() int { return m.stats().Open }
