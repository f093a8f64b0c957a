package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// Defaults of Config.
const (
	DefaultMaxLag       = 10 * time.Second
	DefaultPollInterval = time.Second
	DefaultPollTimeout  = 2 * time.Second
)

// Config configures [NewPostgres] and [NewMySQL]. The zero value of each field means its default.
// No duration may be longer than 100 years.
type Config struct {
	// Name is the name in logs, errors and metrics until SetName gives another; a Registry does.
	// Default: "replicated". The pools are named after it: "orders/primary", "orders/replica-1".
	Name string

	// Primary is the server that takes writes. A PostgreSQL URL that names several servers and has
	// target_session_attrs=read-write makes it follow a failover: see [Postgres.Primary].
	Primary sqlpool.Config

	// Replicas are the servers that are read from: streaming standbys of Primary, or replicas that
	// are read-only. A Name replaces "replica-1" and so on. Start holds for each by itself: choose
	// StartDegraded to start while a replica is away. RecycleReadOnly is Disabled by default here.
	// May be empty, as on a developer's machine, unless Fallback is FallbackNone.
	Replicas []sqlpool.Config

	// MaxLag is how far a replica may be behind and still be read from. It is accurate to
	// PollInterval, and refers to the last time the primary answered. Default: DefaultMaxLag. Off:
	// ignored, for servers that do not report it, such as Amazon Aurora's. MySQL and MariaDB report
	// it by GTIDs: see [MySQL]. Bounds: not below PollInterval.
	MaxLag time.Duration

	// PollInterval is how often each server is asked for its role and position. An error in a
	// server's traffic brings the next poll forward. Default: DefaultPollInterval. It cannot be
	// off.
	PollInterval time.Duration

	// PollTimeout bounds one poll of one server, a new connection included. Default:
	// DefaultPollTimeout. It cannot be off.
	PollTimeout time.Duration

	// Fallback says where reads go while no replica is fit. Default: FallbackPrimary.
	Fallback Fallback

	// Logger gets changes in the state of the servers. Default: slog.Default(). The pools have
	// their own.
	Logger *slog.Logger
}

// Fallback says what [Postgres.Replica] and [MySQL.Replica] return while no replica is fit.
type Fallback int

// Fallbacks.
const (
	// FallbackPrimary reads from the primary. It is the default: reads go on, at the cost of the
	// primary's load.
	FallbackPrimary Fallback = iota
	// FallbackStale reads from the replicas that answer, however far behind they are, and from the
	// primary if none does.
	FallbackStale
	// FallbackNone reads from nowhere: what Replica returns fails every acquisition with
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

// ErrNoReplica is the error of acquiring from [Postgres.Replica] or [MySQL.Replica] while no
// replica is fit. It occurs only if [Config].Fallback is [FallbackNone].
var ErrNoReplica = errors.New("replica: no replica is fit to be read from")

const primaryName = "primary"

// members returns the configurations of all pools, the primary's first, each with its name below
// the component's.
func (c Config) members() []sqlpool.Config {
	out := make([]sqlpool.Config, 0, 1+len(c.Replicas))
	first := c.Primary
	first.Name = primaryName
	out = append(out, first)
	for i, r := range c.Replicas {
		if r.Name == "" {
			r.Name = fmt.Sprintf("replica-%d", i+1)
		}
		if r.RecycleReadOnly == sqlpool.Default {
			r.RecycleReadOnly = sqlpool.Disabled // a replica refuses writes by its nature
		}
		out = append(out, r)
	}
	return out
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "replicated"
	}
	c.MaxLag = settings.Or(c.MaxLag, DefaultMaxLag)
	c.PollInterval = settings.Or(c.PollInterval, DefaultPollInterval)
	c.PollTimeout = settings.Or(c.PollTimeout, DefaultPollTimeout)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Validate returns every fault of c that can be seen without parsing URLs, joined, or nil. It
// changes nothing.
func (c Config) Validate() error {
	errs := []error{c.validateOwn(), c.validateNames(), c.validateURLs(c.sameKind)}
	for _, m := range c.members() {
		errs = append(errs, faultsOf(m.Name, m.Validate()))
	}
	return errors.Join(errs...)
}

func (c Config) validateOwn() error {
	errs := []error{settings.Times("replica",
		settings.Time{Name: "MaxLag", Value: c.MaxLag, Off: true},
		settings.Time{Name: "PollInterval", Value: c.PollInterval},
		settings.Time{Name: "PollTimeout", Value: c.PollTimeout},
	)}
	lag, every := settings.Or(c.MaxLag, DefaultMaxLag), settings.Or(c.PollInterval, DefaultPollInterval)
	if lag > 0 && lag < every {
		errs = append(errs, fmt.Errorf("replica: MaxLag is %s; it must not be below PollInterval, %s: lag is not known better",
			lag, every))
	}
	if c.Fallback < FallbackPrimary || c.Fallback > FallbackNone {
		errs = append(errs, fmt.Errorf("replica: Fallback is %s; it must be FallbackPrimary, FallbackStale or FallbackNone",
			c.Fallback))
	}
	if c.Fallback == FallbackNone && len(c.Replicas) == 0 {
		errs = append(errs, errors.New("replica: Fallback is FallbackNone, and there are no Replicas to read from"))
	}
	return errors.Join(errs...)
}

func (c Config) validateNames() error {
	var errs []error
	names := map[string]bool{}
	for i, m := range c.members() {
		if names[m.Name] {
			errs = append(errs, fmt.Errorf("replica %d: the name %q is taken", i, m.Name))
		}
		names[m.Name] = true
	}
	return errors.Join(errs...)
}

// validateURLs returns what check finds wrong with the URLs.
func (c Config) validateURLs(check func(url string) error) error {
	var errs []error
	for _, m := range c.members() {
		errs = append(errs, faultsOf(m.Name, check(m.URL)))
	}
	return errors.Join(errs...)
}

// sameKind refuses a URL whose scheme is of another kind of server than Primary.URL's. Other forms
// of URL do not tell.
func (c Config) sameKind(url string) error {
	tells := func(url string) bool { return strings.Contains(url, "://") }
	if tells(url) && tells(c.Primary.URL) && isMySQL(url) != isMySQL(c.Primary.URL) {
		return errors.New("replica: URL is of another kind of server than Primary's")
	}
	return nil
}

// faultsOf names the member in each of several joined faults.
func faultsOf(member string, err error) error {
	return settings.EachFault(err, func(fault error) error { return fmt.Errorf("%s: %w", member, fault) })
}

// String prints what is set, the pools' configurations as [sqlpool.Config.String] does.
func (c Config) String() string { return settings.Config("replica.Config", c) }

// Format prints String, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { printing.Format(f, c) }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return printing.LogValue(c) }

// MarshalJSON returns String as a JSON string.
func (c Config) MarshalJSON() ([]byte, error) { return printing.JSON(c) }
