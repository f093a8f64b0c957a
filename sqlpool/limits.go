package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Limits is what the server grants beside what this configuration may ask of it.
type Limits struct {
	MaxConnections int // the server's limit
	Reserved       int // of these, kept for superusers and the like
	UserLimit      int // of this user or database, whichever is lower; 0: none
	OnServer       int // connections on the server now, of everybody

	PerReplica int // MaxOpen, and one for checks
	Replicas   int // Config.Replicas
	Surge      int // replicas more while a new version is rolled out: a quarter, rounded up, as Kubernetes does by default
	Demand     int // PerReplica × (Replicas + Surge)

	IdleTimeout time.Duration // after which the server closes a silent session; 0: never
	Proxied     bool          // something stands between: its own limits come first, and cannot be seen
	Pooled      bool          // what stands between is a pooler, such as pgbouncer: the server's limits are its affair

	Warnings []string // each with its numbers; empty: all fits
}

// limits asks the backend for what the server grants and compares.
func (c *core) limits(ctx context.Context) (Limits, error) {
	l, err := c.back.limits(ctx)
	if err != nil {
		return Limits{}, fmt.Errorf("sqlpool: limits of %q: %w", c.poolName(), asFault(err))
	}
	if !l.Pooled {
		c.silence.Store(int64(l.IdleTimeout))
		c.keepAliveWithin()
	}
	l.judge(c.cfg())
	return l, nil
}

// within returns cfg with a KeepAlive that the server's own time-out allows, unless one was asked for.
func (c *core) within(cfg, asked *Config) *Config {
	silence := time.Duration(c.silence.Load())
	if asked.KeepAlive != 0 || silence <= 0 || cfg.KeepAlive < silence {
		return cfg
	}
	shorter := *cfg
	shorter.KeepAlive = silence / 2
	return &shorter
}

// keepAliveWithin puts that in effect.
func (c *core) keepAliveWithin() {
	select {
	case c.reloading <- struct{}{}:
	default:
		return // a Reload does it too
	}
	defer func() { <-c.reloading }()
	old := c.cfg()
	cfg := c.within(old, &c.asked)
	if cfg == old || c.evictor == nil {
		return
	}
	c.conf.Store(cfg)
	_ = c.evictor.SetPolicy(cfg.policy()) // Validate has accepted every part of it
	cfg.Logger.Info("sqlpool: idle connections are pinged more often than by default, because the server closes silent ones",
		slog.String("pool", c.poolName()), slog.Duration("keep_alive", cfg.KeepAlive), slog.Duration("server", time.Duration(c.silence.Load())))
}

// warnOfLimits logs what does not fit. Not to be able to ask is no reason not to start.
func (c *core) warnOfLimits(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg().DialTimeout)
	defer cancel()
	log, pool := c.cfg().Logger, slog.String("pool", c.poolName())
	l, err := c.limits(ctx)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		log.LogAttrs(ctx, slog.LevelDebug, "sqlpool: cannot compare the limits", pool, slog.Any("error", err))
	}
	for _, w := range l.Warnings {
		log.LogAttrs(ctx, slog.LevelWarn, "sqlpool: "+w, pool)
	}
}

// judge fills in the demand and the warnings.
func (l *Limits) judge(cfg *Config) {
	l.PerReplica, l.Replicas = cfg.MaxOpen+1, cfg.Replicas
	l.Surge = (l.Replicas + 3) / 4
	l.Demand = l.PerReplica * (l.Replicas + l.Surge)
	warn := func(format string, args ...any) { l.Warnings = append(l.Warnings, fmt.Sprintf(format, args...)) }

	if l.Pooled {
		return // connections end at the pooler
	}
	wanted := fmt.Sprintf("%d replicas, and %d more in a rolling update, may open %d connections each, %d in all", l.Replicas, l.Surge, l.PerReplica, l.Demand)
	if granted := l.MaxConnections - l.Reserved; l.MaxConnections > 0 && l.Demand > granted {
		warn("%s; the server grants %d (max_connections %d, %d reserved)", wanted, granted, l.MaxConnections, l.Reserved)
	}
	if l.UserLimit > 0 && l.Demand > l.UserLimit {
		warn("%s; the server grants this user %d", wanted, l.UserLimit)
	}
	oldest := cfg.MaxLifetime
	if l.IdleTimeout <= 0 || oldest > 0 && oldest < l.IdleTimeout {
		return // no connection grows old enough to be silent for so long
	}
	switch silent := cfg.KeepAlive; {
	case silent == 0 && oldest == 0:
		warn("the server closes sessions that are silent for %s, and KeepAlive and MaxLifetime are off: idle connections will be found dead", l.IdleTimeout)
	case silent == 0:
		warn("the server closes sessions that are silent for %s, and KeepAlive is off, MaxLifetime %s: idle connections will be found dead", l.IdleTimeout, oldest)
	case silent >= l.IdleTimeout:
		warn("the server closes sessions that are silent for %s, and KeepAlive is %s: choose less", l.IdleTimeout, silent)
	}
}
