package sqlpool

import "log/slog"

// StacksRendered is how many stacks of holders have become text so far.
func StacksRendered(p *Pool) uint64 { return p.c.held.Renders() }

// DriverLog is what the driver of MySQL writes its lines to.
func DriverLog(l *slog.Logger) interface{ Print(v ...any) } { return driverLog{l} }
