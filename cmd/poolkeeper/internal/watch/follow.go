package watch

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
)

// Snapshot writes one snapshot and reports whether the service is ready. It fails if the service
// cannot be reached.
func (w *Watch) Snapshot(ctx context.Context, out io.Writer, st term.Styles) (ready bool, err error) {
	w.ask(ctx, time.Now())
	if w.err != nil {
		return false, fmt.Errorf("%s: %w", w.place(), w.err)
	}
	if w.last == nil {
		return false, context.Cause(ctx)
	}
	return w.ready(), w.print(out, st)
}

// ready reports whether the service was ready in its last answer.
func (w *Watch) ready() bool { return w.last.Overall.Ready != "fail" }

// print writes the last document, in lines of any length.
func (w *Watch) print(out io.Writer, st term.Styles) error {
	v := view{styles: st, columns: 1 << 20}
	v.document(w.last)
	_, err := io.WriteString(out, v.String())
	return err
}

// Follow redraws the screen every interval until ctx ends. Then it leaves the last picture behind,
// and reports whether the service was ready in it. It fails if the service has never answered.
func (w *Watch) Follow(ctx context.Context, out io.Writer, st term.Styles) (ready bool, err error) {
	term.Enter(out)
	for {
		w.ask(ctx, time.Now())
		if ctx.Err() != nil {
			break
		}
		columns, lines := term.Size(out)
		if _, err = io.WriteString(out, screen(w.picture(st, columns, time.Now()), lines)); err != nil {
			break
		}
		t := time.NewTimer(w.opts.Interval)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		if ctx.Err() != nil {
			break
		}
	}
	term.Leave(out)
	switch {
	case err != nil:
	case w.last == nil && w.err != nil:
		err = fmt.Errorf("%s: %w", w.place(), w.err)
	case w.last != nil:
		err = w.print(out, st)
	}
	return w.last != nil && w.since.IsZero() && w.ready(), err
}

// picture returns the text of the screen.
func (w *Watch) picture(st term.Styles, columns int, now time.Time) string {
	v := view{styles: st, columns: columns}
	if !w.since.IsZero() {
		v.away(w.place(), w.err, now.Sub(w.since), w.opts.Interval)
	}
	if w.last != nil {
		v.document(w.last)
	}
	return v.String()
}

// screen returns the bytes that draw a picture over the last one, cut to the lines of the terminal.
func screen(picture string, lines int) string {
	all := strings.Split(strings.TrimSuffix(picture, "\n"), "\n")
	if len(all) > lines-1 && lines > 2 {
		hidden := len(all) - (lines - 2)
		all = append(all[:lines-2:lines-2], fmt.Sprintf("… and %d more lines", hidden))
	}
	var b strings.Builder
	b.WriteString(term.Home)
	for _, l := range all {
		b.WriteString(l + term.ClearLine + "\n")
	}
	b.WriteString(term.ClearBelow)
	return b.String()
}
