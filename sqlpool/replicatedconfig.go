package sqlpool

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Fallback says what [Replicated.Reader] and [ReplicatedMySQL.Reader] return while no replica is
// fit.
type Fallback int

// Fallbacks.
const (
	// FallbackPrimary reads from the primary. It is the default: reads go on, at the cost of the
	// primary's load.
	FallbackPrimary Fallback = iota
	// FallbackStale reads from the replicas that answer, however far behind they are, and from the
	// primary if none does.
	FallbackStale
	// FallbackNone reads from nowhere: what Reader returns fails every acquisition with
	// ErrNoReplica.
	FallbackNone
)

// String returns the name of the constant.
func (f Fallback) String() string {
	switch f {
	case FallbackPrimary:
		return "FallbackPrimary"
	case FallbackStale:
		return "FallbackStale"
	case FallbackNone:
		return "FallbackNone"
	default:
		return fmt.Sprintf("Fallback(%d)", int(f))
	}
}

// Defaults of ReplicatedConfig.
const (
	DefaultMaxLag       = 10 * time.Second
	DefaultLookInterval = time.Second
	DefaultLookTimeout  = 2 * time.Second
)

// ReplicatedConfig configures [NewReplicated] and [NewReplicatedMySQL]. The zero value of each
// field means its default. No duration may be longer than 100 years.
type ReplicatedConfig struct {
	// Name is the name in logs, errors and metrics until SetName gives another; a Registry does.
	// Default: "replicated". The pools are named after it: "orders/primary", "orders/replica-1".
	Name string

	// Primary is the server that takes writes. A PostgreSQL URL that names several servers and has
	// target_session_attrs=read-write makes it follow a failover: see [Replicated.Primary].
	Primary Config

	// Replicas are the servers that are read from: streaming standbys of Primary, or replicas that
	// are read-only. Not to be confused with Config.Replicas, the number of processes. A Name
	// replaces "replica-1" and so on. Start holds for each by itself: choose StartDegraded to start
	// while a replica is away. RecycleReadOnly is Disabled by default here. May be empty, as on a
	// developer's machine, unless Fallback is FallbackNone.
	Replicas []Config

	// MaxLag is how far a replica may be behind and still be read from. It is accurate to
	// LookInterval, and refers to the last time the primary answered. Default: DefaultMaxLag. Off:
	// ignored, for servers that do not report it, such as Amazon Aurora's. MySQL and MariaDB report
	// it by GTIDs: see [ReplicatedMySQL]. Bounds: not below LookInterval.
	MaxLag time.Duration

	// LookInterval is how often the component asks each server for its role and position. An error
	// in a server's traffic makes it ask at once. Default: DefaultLookInterval. It cannot be off.
	LookInterval time.Duration

	// LookTimeout bounds one such look, a new connection included. Default: DefaultLookTimeout. It
	// cannot be off.
	LookTimeout time.Duration

	// Fallback says where reads go while no replica is fit. Default: FallbackPrimary.
	Fallback Fallback

	// Logger gets changes in the state of replicas. Default: slog.Default(). The pools have their
	// own.
	Logger *slog.Logger
}

// Validate returns every fault of c that can be seen without parsing URLs, joined, or nil. It
// changes nothing.
func (c ReplicatedConfig) Validate() error {
	errs := []error{c.validateOwn(), c.validateMembers(), c.foreign(c.oneKind)}
	for _, m := range c.members() {
		errs = append(errs, within(m.Name, m.Validate()))
	}
	return errors.Join(errs...)
}

// oneKind finds URLs of replicas whose scheme is of another kind than that of Primary.URL. Other
// forms of URL do not say.
func (c ReplicatedConfig) oneKind(url string) error {
	if isURL := strings.Contains(url, "://") && strings.Contains(c.Primary.URL, "://"); isURL && isMySQL(url) != isMySQL(c.Primary.URL) {
		return errors.New("sqlpool: URL is of another kind of server than Primary's")
	}
	return nil
}

// validateMembers finds what is wrong with the pools' configurations but would be right elsewhere.
func (c ReplicatedConfig) validateMembers() error {
	var errs []error
	names := map[string]bool{}
	for i, m := range c.members() {
		if names[m.Name] {
			errs = append(errs, fmt.Errorf("replica %d: sqlpool: the name %q is taken", i, m.Name))
		}
		names[m.Name] = true
	}
	return errors.Join(errs...)
}

// foreign finds the pools whose URL judge refuses.
func (c ReplicatedConfig) foreign(judge func(url string) error) error {
	var errs []error
	for _, m := range c.members() {
		errs = append(errs, within(m.Name, judge(m.URL)))
	}
	return errors.Join(errs...)
}

func (c ReplicatedConfig) validateOwn() error {
	errs := []error{settings.Times("sqlpool",
		settings.Time{Name: "MaxLag", Value: c.MaxLag, Off: true},
		settings.Time{Name: "LookInterval", Value: c.LookInterval},
		settings.Time{Name: "LookTimeout", Value: c.LookTimeout},
	)}
	lag, every := settings.Or(c.MaxLag, DefaultMaxLag), settings.Or(c.LookInterval, DefaultLookInterval)
	if lag > 0 && lag < every {
		errs = append(errs, fmt.Errorf("sqlpool: MaxLag is %s; it must not be below LookInterval, %s: lag is not known better than that", lag, every))
	}
	if c.Fallback < FallbackPrimary || c.Fallback > FallbackNone {
		errs = append(errs, fmt.Errorf("sqlpool: Fallback is %s; it must be FallbackPrimary, FallbackStale or FallbackNone", c.Fallback))
	}
	if c.Fallback == FallbackNone && len(c.Replicas) == 0 {
		errs = append(errs, errors.New("sqlpool: Fallback is FallbackNone and there are no Replicas: nothing could ever be read"))
	}
	return errors.Join(errs...)
}

const primaryName = "primary"

// members returns the configurations of all pools, the primary's first, each with its name below
// the component's.
func (c ReplicatedConfig) members() []Config {
	out := make([]Config, 0, 1+len(c.Replicas))
	first := c.Primary
	first.Name = primaryName
	out = append(out, first)
	for i, r := range c.Replicas {
		if r.Name == "" {
			r.Name = fmt.Sprintf("replica-%d", i+1)
		}
		if r.RecycleReadOnly == Default {
			r.RecycleReadOnly = Disabled // a replica refuses writes by its nature
		}
		out = append(out, r)
	}
	return out
}

func (c ReplicatedConfig) withDefaults() ReplicatedConfig {
	if c.Name == "" {
		c.Name = "replicated"
	}
	c.MaxLag = settings.Or(c.MaxLag, DefaultMaxLag)
	c.LookInterval = settings.Or(c.LookInterval, DefaultLookInterval)
	c.LookTimeout = settings.Or(c.LookTimeout, DefaultLookTimeout)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// within says of each of several joined faults which member of a component it is about.
func within(member string, err error) error {
	return settings.EachFault(err, func(fault error) error { return fmt.Errorf("%s: %w", member, fault) })
}
