package lifecycle

import (
	"context"
	"log/slog"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
)

// Component is what a [Registry] starts and stops. What else it can do it says by implementing the
// optional interfaces of this file; the Registry asks for each with a type assertion.
//
// The Registry calls Start at most once at a time, never before everything the component depends on
// is up, and Stop only after everything that depends on it has stopped or was given up. Both run on
// a goroutine of their own, with a context that ends when their time is over and as soon as they
// return: work that goes on after Start must not use Start's context. A panic or runtime.Goexit
// inside is caught and becomes an error.
//
// Stop must be legal without Start and after a Start that failed: a constructor may have started
// goroutines that only Stop (or Abort) ends. It should return soon after its context ends.
type Component interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Drainer is a Component that can finish what it is doing before it stops. Drain refuses new work,
// waits for the work in flight until ctx ends, and is followed by Stop, whatever it returns. Drain
// leaves time to Stop: its context ends when three quarters of what the component has are over, or
// 2 s before the end if that is later. An error of a Drain that ran out of time is not reported if
// Stop returns one as well, which then says what was left.
type Drainer interface {
	Drain(ctx context.Context) error
}

// Aborter is a Component that can be cut off. Abort releases everything at once: it cuts what is in
// flight and does not wait for anybody. It is called when the time for stopping is over, and for
// components that were never started or whose Start failed. It must be legal at any time, without
// Start, twice, and while Start, Drain or Stop are running, which should then return.
type Aborter interface {
	Abort() error
}

// Checker is a Component with a health check, named after the component. The check begins once the
// component is up. Check must be safe to call while Drain and Stop run.
type Checker interface {
	Check(ctx context.Context) error
}

// MultiChecker is a Component with several health checks (shards, replicas). Checks is called once,
// after Start has returned. The Registry names them "component/name"; names in their DependsOn are
// names of components.
type MultiChecker interface {
	Checks() []health.Check
}

// DoneNotifier is a Component that can end by itself while it is up. Done is called once after each
// Start; its channel gets the error the component died of, or nil, or is closed, when it has
// completed what it was for. A nil channel never says anything. See [WithDeathPolicy].
type DoneNotifier interface {
	Done() <-chan error
}

// Restartable is a Component that can be started again after it was stopped. Only a component that
// is, together with all its dependents, can be given [WithDeathPolicy]([DeathPolicyRestart]).
// [Registry.Add] asks once.
type Restartable interface {
	Restartable() bool
}

// StatsProvider is a Component that is a pool and tells how it does.
type StatsProvider interface {
	Stats() poolkeeper.Stats
}

// HolderLister is a Component that can list the holders of its resources.
type HolderLister interface {
	Holders() []poolkeeper.Holder
}

// ObserverSetter is a Component whose live traffic can tell its health check what it saw.
// ObserveWith is called once the component is up and its check registered, and again after each
// restart.
type ObserverSetter interface {
	ObserveWith(o poolkeeper.Observer)
}

// SettingsProvider is a Component that can tell its effective settings: defaults filled in, no
// secrets.
type SettingsProvider interface {
	Settings() []slog.Attr
}

// EventSource is a Component that emits events. [Registry.Add] subscribes to it. The registry passes
// each event to its own subscribers, as an [event.Pool]. fn does not block.
type EventSource interface {
	Subscribe(fn func(poolkeeper.Event)) (cancel func())
}

// ExpiryProvider is a Component that knows when its certificates and credentials expire.
type ExpiryProvider interface {
	Expiries() []poolkeeper.Expiry
}

// ServerStatsProvider is a Component that is a server and counts its requests and connections.
type ServerStatsProvider interface {
	Stats() poolkeeper.ServerStats
}

// StreamStatsProvider is a Component that keeps long-lived connections of clients.
type StreamStatsProvider interface {
	StreamStats() poolkeeper.StreamStats
}

// LoggerSetter is a Component that logs and has no configuration for its logger. [Registry.Add] gives
// it Config.Logger.
type LoggerSetter interface {
	SetLogger(l *slog.Logger)
}

// NameSetter is a Component that wants to know its name. [Registry.Add] calls SetName, before
// anything else.
type NameSetter interface {
	SetName(name string)
}
