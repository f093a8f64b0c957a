package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Impact says what a failed check does to the groups it belongs to.
type Impact uint8

const (
	// ImpactCritical fails the group: readiness answers 503. It is the zero value.
	ImpactCritical Impact = iota
	// ImpactDegrading warns: the group still answers 200, with status "warn".
	ImpactDegrading
)

// String returns "critical" or "degrading".
func (i Impact) String() string {
	if i == ImpactDegrading {
		return "degrading"
	}
	return "critical"
}

// Groups that every monitor has. A check may name others; they are served at /groupz/{group}.
const (
	// GroupReady is readiness: may traffic be sent here. Served at /readyz.
	GroupReady = "ready"
	// GroupStartup is startup: has the service come up once. Served at /startupz. Kubernetes kills
	// a container whose startup probe keeps failing, so put only into it what a restart can mend.
	GroupStartup = "startup"
	// GroupLive is liveness: served at /livez. It consists of heartbeats only; no check can be put
	// into it.
	GroupLive = "live"
)

// maxNameLen bounds names of checks, groups and heartbeats: they are printed in every page.
const maxNameLen = 200

// Check is one thing to watch. Zero fields take the default of [Config], then the one named here.
type Check struct {
	// Name identifies the check in pages, logs and ?exclude=. Required, unique in its monitor,
	// printable, at most 200 bytes; it may contain slashes ("cache/10.0.0.7:6379").
	Name string

	// Probe asks the watched thing whether it works. Required. It runs in a goroutine of its own,
	// never twice at the same time, under a context that ends after Timeout; it should return soon
	// after. nil is healthy, an error from [Degraded] works with a reservation, any other error is
	// a failure, and so are a panic, runtime.Goexit and no answer in time.
	Probe func(context.Context) error

	// Impact is what a failure does to the groups. Zero: ImpactCritical.
	Impact Impact

	// Groups the check belongs to: GroupReady, GroupStartup or names of your own. Empty: GroupReady
	// alone.
	Groups []string

	// Interval is the time between the starts of two runs. Default 10 s; at least 1 ms.
	Interval time.Duration

	// RetryInterval is the time between the starts of two runs while the check is undecided: after
	// a failure that has not reached FailureThreshold, or a success that has not reached
	// SuccessThreshold. It also limits how often [Registration.Observe] can bring a run forward.
	// Default 1 s, or Interval if that is shorter; at most Interval.
	RetryInterval time.Duration

	// Timeout bounds one run. Past it the run has failed, whether or not Probe returned. Default 2
	// s.
	Timeout time.Duration

	// InitialDelay is the time from registration (or Start, if later) to the first run. Zero: at
	// once, throttled.
	InitialDelay time.Duration

	// MaxAge is how old the last result may be for the verdict to count. Default 3 Intervals plus
	// Timeout; at least Interval with its jitter plus Timeout, or the verdict would expire in
	// ordinary life.
	MaxAge time.Duration

	// Jitter is the part of an interval, 0 to 1, by which each run is moved at random. Default 0.1;
	// poolkeeper.NoJitter: none.
	Jitter float64

	// FailureThreshold is how many failures in a row make a healthy check fail. Default 3. The
	// first result ever decides alone.
	FailureThreshold int

	// SuccessThreshold is how many successes in a row make a failed check healthy. Default 1.
	SuccessThreshold int

	// TrafficCounts lets successes seen by live traffic ([Registration.Observe] with nil) stand in
	// for runs of a healthy check. At least every fifth run is a real one. Default false: every run
	// is real.
	TrafficCounts bool

	// DependsOn names the checks this one needs. When it fails together with one of them, pages say
	// "caused by" and put the cause first. A name that is not registered (yet) is not an error; a
	// cycle is cut.
	DependsOn []string
}

// minAge is the longest time between two results in ordinary life.
func (c Check) minAge() time.Duration {
	return sum(c.Interval, part(c.Interval, c.Jitter), c.Timeout)
}

func validGroup(name string) error {
	if name == GroupLive {
		return errors.New("liveness consists of heartbeats only")
	}
	if strings.Contains(name, "/") {
		return errors.New("contains a slash: it is one segment of a path")
	}
	return validName(name)
}

// validName refuses what could not be printed on one line of a page or typed into a URL.
func validName(name string) error {
	switch {
	case name == "":
		return errors.New("empty")
	case len(name) > maxNameLen:
		return fmt.Errorf("%d bytes, at most %d are allowed", len(name), maxNameLen)
	case !utf8.ValidString(name):
		return errors.New("not valid UTF-8")
	case strings.TrimSpace(name) != name:
		return errors.New("begins or ends with white space")
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("contains characters that cannot be printed")
	}
	return nil
}
