// Package fleet reckons what all instances of a service together ask of one server, and says what
// does not fit.
package fleet

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/plural"
)

// Demand is how many connections the instances may open.
type Demand struct {
	PerInstance int // MaxOpen, and one for checks
	Instances   int
	Surge       int // more instances while a new version is rolled out: a quarter, rounded up, as Kubernetes does by default
	Total       int // PerInstance × (Instances + Surge)
}

// Of reckons the demand of instances with maxOpen each.
func Of(maxOpen, instances int) Demand {
	d := Demand{PerInstance: maxOpen + 1, Instances: instances, Surge: (instances + 3) / 4}
	d.Total = d.PerInstance * (d.Instances + d.Surge)
	return d
}

// String is the beginning of a warning.
func (d Demand) String() string {
	return fmt.Sprintf("%s, and %d more in a rolling update, may open %d connections each, %d in all",
		plural.Of(d.Instances, "instance"), d.Surge, d.PerInstance, d.Total)
}

// Silence warns of a server that closes what is silent for limit, and of a keepAlive that does not
// prevent it, unless nothing lives that long. Of all three zero is off. what is closed is a
// connection or a session. It returns "" if all fits.
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

// Warn logs warnings with their numbers. err says why the limits are not known, which is no reason
// not to start.
func Warn(log *event.Log, warnings []string, err error, numbers ...slog.Attr) {
	if err != nil {
		log.Emit(event.OfLimitsUnknown(err))
	}
	for _, w := range warnings {
		log.Emit(event.OfLimit(w, numbers...))
	}
}

// Concerns reports whether a change of the configuration may make the server's limits too low.
func Concerns(c poolkeeper.Change) bool {
	switch c.Field {
	case "MaxOpen", "Instances", "KeepAlive", "MaxLifetime", "URL", "Credentials", "CredentialsFile":
		return true
	default:
		return false
	}
}
