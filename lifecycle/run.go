package lifecycle

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// Run starts everything, waits until ctx ends, a signal of Config.Signals comes or a component
// dies, and shuts down. It is all a main function needs:
//
//	if err := reg.Run(context.Background()); err != nil {
//		slog.Error("service failed", "error", err)
//		os.Exit(1)
//	}
//
// nil means that it was asked to stop, by ctx or a signal, and that everything is down. Otherwise
// the error joins why it did not start, or which component died, with everything that went wrong on
// the way down. A second signal cuts the shutdown short: what is left is aborted, and the error
// wraps ErrAborted. From then on signals have their usual effect, so a third one ends the process.
// When Run returns, signals are as they were before.
func (r *Registry) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	signals := make(chan os.Signal, 2)
	if len(r.cfg.Signals) > 0 {
		signal.Notify(signals, r.cfg.Signals...)
		defer signal.Stop(signals)
	}
	over, gone := make(chan struct{}), make(chan struct{})
	// Owner: Run, which waits for it; over stops it.
	go func() {
		defer close(gone)
		r.listen(signals, over, stop)
	}()
	err := r.runUntil(ctx)
	close(over)
	<-gone
	return err
}

// listen turns signals into what they ask for.
func (r *Registry) listen(signals chan os.Signal, over <-chan struct{}, stop context.CancelCauseFunc) {
	for second := false; ; second = true {
		select {
		case <-over:
			return
		case s := <-signals:
			cause := &SignalError{Signal: s}
			e := &event.SignalReceived{Info: event.Info{Time: time.Now()}, Signal: s, Second: second}
			if second {
				signal.Stop(signals)
				e.StillUp = r.stillUp()
				r.emit(e)
				r.cutShort(cause)
				return
			}
			r.emit(e)
			stop(cause)
		}
	}
}

func (r *Registry) runUntil(ctx context.Context) error {
	if err := r.Start(ctx); err != nil {
		if isInterruption(err) {
			return nil
		}
		return err
	}
	select {
	case <-ctx.Done():
	case <-r.done:
	}
	c, first := r.beginShutdown(context.Cause(ctx))
	if first {
		r.close(context.WithoutCancel(ctx), c)
	}
	<-c.done
	return c.err
}

// isInterruption reports whether a start failed for no other reason than that it was told to stop.
func isInterruption(err error) bool {
	for _, e := range parts(err) {
		if _, ok := errors.AsType[*interruptedError](e); !ok {
			return false
		}
	}
	return true
}
