package isolation

import (
	"errors"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/event"
)

// Event returns the event of a change.
func (c Change[K]) Event() event.Event {
	e := event.Event{Attrs: []slog.Attr{slog.String("from", string(c.From)), slog.String("to", string(c.To))}}
	if c.Standing.HasScore {
		e.Attrs = append(e.Attrs, slog.Int("score", c.Standing.Score))
	}
	switch c.To {
	case Serving:
		e.Kind, e.Level, e.Text = event.MemberBack, slog.LevelInfo, "this server serves well again, and is back in rotation"
	case Trial:
		e.Kind, e.Level, e.Text = event.MemberTrial, slog.LevelInfo, "this server is on trial: it gets a part of the traffic again"
	case Isolated:
		e.Kind, e.Level, e.Text = event.MemberIsolated, slog.LevelWarn, "this server is isolated: the others serve better"
		if c.From == Trial {
			e.Text = "this server is isolated again: its trial failed"
		}
		e.Err = errors.New(c.Standing.Why)
		e.Attrs = append(e.Attrs, slog.Duration("retry_in", c.Standing.NextTrial.Sub(c.Standing.Since).Round(time.Millisecond)))
	}
	return e
}
