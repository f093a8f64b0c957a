// Package fleet reckons what all replicas of a service together ask of one server, and says what does not fit.
package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Demand is how many connections the replicas may open.
type Demand struct {
	PerReplica int // MaxOpen, and one for checks
	Replicas   int
	Surge      int // replicas more while a new version is rolled out: a quarter, rounded up, as Kubernetes does by default
	Total      int // PerReplica × (Replicas + Surge)
}

// Of reckons the demand of replicas with maxOpen each.
func Of(maxOpen, replicas int) Demand {
	d := Demand{PerReplica: maxOpen + 1, Replicas: replicas, Surge: (replicas + 3) / 4}
	d.Total = d.PerReplica * (d.Replicas + d.Surge)
	return d
}

// String is the beginning of a warning.
func (d Demand) String() string {
	return fmt.Sprintf("%d replicas, and %d more in a rolling update, may open %d connections each, %d in all",
		d.Replicas, d.Surge, d.PerReplica, d.Total)
}

// Silence warns of a server that closes what is silent for limit, and of a keepAlive that does not prevent it, unless
// nothing lives that long. Of all three zero is off. what is closed is a connection or a session. It returns "" if all
// fits.
func Silence(what string, limit, keepAlive, lifetime time.Duration) string {
	begin := fmt.Sprintf("the server closes %ss that are silent for %s, and KeepAlive ", what, limit)
	switch {
	case limit <= 0, lifetime > 0 && lifetime < limit:
		return ""
	case keepAlive == 0 && lifetime == 0:
		return begin + "and MaxLifetime are off: idle connections will be found dead"
	case keepAlive == 0:
		return begin + "is off, MaxLifetime " + lifetime.String() + ": idle connections will be found dead"
	case keepAlive >= limit:
		return begin + "is " + keepAlive.String() + ": choose less"
	default:
		return ""
	}
}

// Log logs warnings for a pool of a package. err says why they could not be had: no reason not to start.
func Log(ctx context.Context, log *slog.Logger, pkg, pool string, warnings []string, err error) {
	if err != nil {
		log.LogAttrs(ctx, slog.LevelDebug, pkg+": cannot compare the limits", slog.String("pool", pool), slog.Any("error", err))
	}
	for _, w := range warnings {
		log.LogAttrs(ctx, slog.LevelWarn, pkg+": "+w, slog.String("pool", pool))
	}
}
