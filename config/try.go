package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/event"
)

// patience bounds the reload of one pool, the check of a new server included.
const patience = 30 * time.Second

// try puts a plan in effect, watches it, and keeps it or rolls it back. At a shutdown it leaves the
// plan as far as it has come.
func (w *Watcher) try(ctx context.Context, m *health.Monitor, p *plan) {
	w.become("trying", nil)
	before := w.loop.history.delta(w.readings())
	ready := m.Report().Ready()
	done, err := w.apply(ctx, p)
	text := "a pool refused the new configuration; the old one is back"
	if err == nil {
		w.become("soaking", nil)
		err = w.judge(ctx, m, before, ready)
		text = "the new configuration made things worse; the old one is back"
	}
	switch {
	case err == nil:
		w.keep(p)
	case isOver(ctx, m):
		return // the pools are about to close
	case errors.Is(err, errChanged):
		w.rollBack(ctx, p, done, err, "the file changed again; the old configuration is back meanwhile")
		w.loop.settled, w.loop.seen = fingerprint{}, fingerprint{} // the file may come back to what was tried
	default:
		w.rollBack(ctx, p, done, err, text)
	}
}

// isOver reports whether the watcher stops or the registry drains.
func isOver(ctx context.Context, m *health.Monitor) bool {
	select {
	case <-ctx.Done():
		return true
	case <-m.Draining():
		return true
	default:
		return false
	}
}

// apply reloads pool by pool, and then the registry. It returns the steps that it has made.
func (w *Watcher) apply(ctx context.Context, p *plan) (done []step, err error) {
	for _, s := range p.live {
		bounded, cancel := context.WithTimeout(ctx, patience)
		err := s.from.kind.reload(bounded, s.from.comp, s.to)
		cancel()
		if err != nil {
			return done, err
		}
		done = append(done, s)
	}
	if len(p.now) > 0 {
		return done, w.file.reg.Reload(p.next.lifecycle)
	}
	return done, nil
}

// keep makes the plan the content in effect.
func (w *Watcher) keep(p *plan) {
	w.file.mu.Lock()
	now := *w.file.now
	now.entries = slices.Clone(now.entries)
	for i, e := range now.entries {
		for _, s := range p.live {
			if s.from == e {
				own := *e
				own.cfg = s.to
				now.entries[i] = &own
			}
		}
	}
	now.lifecycle.ShutdownTimeout, now.lifecycle.DrainDelay = p.next.lifecycle.ShutdownTimeout, p.next.lifecycle.DrainDelay
	now.lifecycle.OnHang = p.next.lifecycle.OnHang
	now.mark, now.refs = p.next.mark, p.next.refs
	w.file.now = &now
	w.file.mu.Unlock()
	w.mu.Lock()
	w.state.Applied++
	w.state.Restart = p.restart
	w.mu.Unlock()
	w.become("watching", nil)
	w.events.Emit(event.Event{
		Kind: poolkeeper.EventReloaded, Level: slog.LevelInfo, Text: "the new configuration is in effect", Attrs: w.attrs(p),
	})
	if len(p.restart) > 0 {
		w.restartOnly(p)
	}
}

// rollBack gives the pools that were reloaded their old configurations, the last one first.
func (w *Watcher) rollBack(ctx context.Context, p *plan, done []step, cause error, text string) {
	if len(p.now) > 0 {
		_ = w.file.reg.Reload(w.file.content().lifecycle) // it was valid, and fails only once the shutdown has begun
	}
	slices.Reverse(done)
	w.loop.owed = done
	err := w.payBack(ctx)
	if err != nil {
		text = "the new configuration failed, and the old one is not back in all pools; the watcher keeps trying"
	}
	w.loop.history = history{} // what was measured belongs to the change
	w.mu.Lock()
	w.state.RolledBack++
	w.mu.Unlock()
	cause = errors.Join(cause, err)
	w.become("refused", cause)
	w.events.Emit(event.Event{
		Kind: poolkeeper.EventReloadRefused, Level: slog.LevelWarn, Text: text, Err: cause, Attrs: w.attrs(p),
	})
}

// payBack makes the roll-backs that are owed. The next look repeats those that fail.
func (w *Watcher) payBack(ctx context.Context) error {
	var left []step
	var errs []error
	for _, s := range w.loop.owed {
		bounded, cancel := context.WithTimeout(ctx, patience)
		if err := s.from.kind.reload(bounded, s.from.comp, s.from.cfg); err != nil {
			left = append(left, s)
			errs = append(errs, fmt.Errorf("config: roll back %s: %w", s.from.path(), err))
		}
		cancel()
	}
	w.loop.owed = left
	return errors.Join(errs...)
}

// judge watches a change for Soak. It returns why the change made things worse, or nil.
func (w *Watcher) judge(ctx context.Context, m *health.Monitor, before map[string]sample, ready bool) error {
	began := w.readings()
	crowds := map[string]int{} // looks in a row, by pool
	every := max(min(w.every, w.soak/10), time.Millisecond)
	end := time.Now().Add(w.soak)
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.Draining():
			return context.Canceled
		case <-timer.C:
		}
		if err := w.worse(m, before, began, crowds, ready); err != nil {
			return err
		}
		if !time.Now().Before(end) {
			return nil
		}
		if text, err := readFile(w.file.path); err != nil || fingerprintOf(text, readAll(w.loop.refs)) != w.loop.settled {
			return errChanged
		}
		timer.Reset(every)
	}
}

// errChanged ends a trial whose file has changed again: the next look begins anew.
var errChanged = errors.New("config: the file changed again before the change was kept")

// worse compares the samples since the change with those before it.
func (w *Watcher) worse(m *health.Monitor, before, began map[string]sample, crowds map[string]int, ready bool) error {
	if report := m.Report(); ready && !report.Ready() {
		g, _ := report.Group(health.GroupReady)
		return fmt.Errorf("config: the service is not ready any more: %s", g.Reason)
	}
	var why []string
	for name, now := range w.readings() {
		crowds[name] = now.crowded * (crowds[name] + 1)
		delta := now.since(began[name])
		delta.crowded = crowds[name]
		if s := delta.worse(before[name]); s != "" {
			why = append(why, fmt.Sprintf("%s: %s", name, s))
		}
	}
	if len(why) == 0 {
		return nil
	}
	slices.Sort(why)
	return fmt.Errorf("config: since the change, %s", strings.Join(why, "; "))
}
