package statuspage

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/redact"
)

// Defaults and bounds of [Config].
const (
	defaultInterval = 2 * time.Second
	minInterval     = 100 * time.Millisecond
	maxInterval     = time.Minute
	defaultWindow   = 10 * time.Minute
	maxSamples      = 3600 // in a Window
	minSamples      = 10
	defaultEvents   = 200
	maxEvents       = 5000
	defaultViewers  = 16
	maxViewers      = 1000
)

// Config sets up a [Page]. The zero Config is ready to use: it shows overall states only.
type Config struct {
	// Name is the title of the page: the name of the service. Empty: the name of the executable.
	Name string

	// Allow decides which requests may see more than overall states: names, settings, errors,
	// stacks. It is called for each request, and for each update of an open page. It may be called
	// concurrently, and must not block. nil, false and a panic deny.
	Allow func(*http.Request) bool

	// Interval is the time between two samples, and between two updates of a page that is open.
	// Zero: 2 s. From 100 ms to 1 min.
	Interval time.Duration

	// Window is for how long samples are kept: the width of the charts. From 10 to 3600 times
	// Interval. Zero: 10 min, or the bound that is nearest to it.
	Window time.Duration

	// Events is how many events are kept. Zero: 200. At most 5000.
	Events int

	// MaxViewers bounds how many pages are updated at the same time; more are refused with 503 and
	// still work by hand. Zero: 16. At most 1000.
	MaxViewers int
}

// Validate reports every fault of c at once, joined. It changes nothing; zero fields are not
// faults.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("statuspage: config: "+format, args...))
	}
	d := c.withDefaults()
	if d.Interval < minInterval || d.Interval > maxInterval {
		fault("Interval %s is not between %s and %s", c.Interval, minInterval, maxInterval)
	} else if n := d.Window / d.Interval; n < minSamples || n > maxSamples {
		fault("Window %s is not between %d and %d times Interval %s", d.Window, minSamples, maxSamples, d.Interval)
	}
	if d.Events < 1 || d.Events > maxEvents {
		fault("Events %d is not between 1 and %d", c.Events, maxEvents)
	}
	if d.MaxViewers < 1 || d.MaxViewers > maxViewers {
		fault("MaxViewers %d is not between 1 and %d", c.MaxViewers, maxViewers)
	}
	return errors.Join(faults...)
}

// withDefaults returns a copy in which every zero field has its default.
func (c Config) withDefaults() Config {
	c.Interval = cmp.Or(c.Interval, defaultInterval)
	c.Window = cmp.Or(c.Window, min(max(defaultWindow, minSamples*c.Interval), maxSamples*c.Interval))
	c.Events = cmp.Or(c.Events, defaultEvents)
	c.MaxViewers = cmp.Or(c.MaxViewers, defaultViewers)
	if c.Name = redact.Text(c.Name); c.Name == "" {
		c.Name = "service"
		if path, err := os.Executable(); err == nil {
			c.Name = filepath.Base(path)
		}
	}
	return c
}
