package sqlpool

import (
	"context"
	"errors"
	"log/slog"
)

// StacksRendered is how many stacks of holders have become text so far.
func StacksRendered(p *DB) uint64 { return p.m.held.Renders() }

// DriverLog is what the driver of MySQL writes its lines to.
func DriverLog(l *slog.Logger) interface{ Print(v ...any) } { return driverLog{l} }

// OpenIdle opens an idle connection as a Fill does. It does so while a caller has a permit for an
// idle connection and has not taken it yet.
func OpenIdle(ctx context.Context, p *Postgres) error {
	if ready, _ := p.back.tryPermit(ctx); ready != permitIdle {
		return errors.New("nothing is idle")
	}
	defer p.back.givePermit()
	return p.back.openIdle(ctx)
}

// Converted is what the pools make of a configuration.
func Converted(c any) any {
	own, ok := c.(interface{ config() config })
	if !ok {
		return nil
	}
	return own.config()
}
