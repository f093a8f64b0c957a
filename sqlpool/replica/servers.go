package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// config is a [PostgresConfig] or a [MySQLConfig].
type config struct {
	kind    *kind
	Name    string
	servers []server // the primary first

	MaxLag       time.Duration
	PollInterval time.Duration
	PollTimeout  time.Duration
	Fallback     Fallback
	Isolation    poolkeeper.Isolation
	Logger       *slog.Logger
}

// server is the configuration of the pool of one server.
type server struct {
	name string // below the set's
	url  string

	validate func() error
	// make makes the pool, reload reloads it, and plan says what that would change. All leave its
	// name to the set.
	make   func() (pool, error)
	plan   func(p pool) ([]poolkeeper.Change, error)
	reload func(ctx context.Context, p pool) error
}

// serverName returns the name of a server below the set's. The primary is 0.
func serverName(i int, own string) string {
	switch {
	case i == 0:
		return "primary"
	case own == "":
		return fmt.Sprintf("replica-%d", i)
	default:
		return own
	}
}

func (c PostgresConfig) config() config {
	out := config{
		kind: postgresKind(), Name: c.Name, MaxLag: c.MaxLag, PollInterval: c.PollInterval, PollTimeout: c.PollTimeout,
		Fallback: c.Fallback, Isolation: c.Isolation, Logger: c.Logger,
	}
	for i, own := range append([]sqlpool.PostgresConfig{c.Primary}, c.Replicas...) {
		s := server{name: serverName(i, own.Name), url: own.URL}
		own.Name = ""
		own.DisableResetOnReadOnly = own.DisableResetOnReadOnly || i > 0 // a replica refuses writes by its nature
		s.validate = own.Validate
		s.make = func() (pool, error) { return sqlpool.NewPostgres(own) }
		s.plan = func(p pool) ([]poolkeeper.Change, error) { return asPostgres(p).Plan(own) }
		s.reload = func(ctx context.Context, p pool) error { return asPostgres(p).Reload(ctx, own) }
		out.servers = append(out.servers, s)
	}
	return out
}

func (c MySQLConfig) config() config {
	out := config{
		kind: mysqlKind(), Name: c.Name, MaxLag: c.MaxLag, PollInterval: c.PollInterval, PollTimeout: c.PollTimeout,
		Fallback: c.Fallback, Isolation: c.Isolation, Logger: c.Logger,
	}
	for i, own := range append([]sqlpool.MySQLConfig{c.Primary}, c.Replicas...) {
		s := server{name: serverName(i, own.Name), url: own.URL}
		own.Name = ""
		own.DisableResetOnReadOnly = own.DisableResetOnReadOnly || i > 0 // a replica refuses writes by its nature
		s.validate = own.Validate
		s.make = func() (pool, error) { return sqlpool.NewMySQL(own) }
		s.plan = func(p pool) ([]poolkeeper.Change, error) { return asMySQL(p).Plan(own) }
		s.reload = func(ctx context.Context, p pool) error { return asMySQL(p).Reload(ctx, own) }
		out.servers = append(out.servers, s)
	}
	return out
}

func (c config) withDefaults() config {
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

// validate returns every fault of c that can be seen without parsing URLs, joined, or nil.
func (c config) validate() error {
	errs := []error{c.validateOwn(), c.validateNames(), c.validateURLs()}
	for _, m := range c.servers {
		errs = append(errs, faultsOf(m.name, m.validate()))
	}
	return errors.Join(errs...)
}

func (c config) validateOwn() error {
	errs := []error{settings.Times("replica",
		settings.Time{Name: "MaxLag", Value: c.MaxLag, Off: true},
		settings.Time{Name: "PollInterval", Value: c.PollInterval},
		settings.Time{Name: "PollTimeout", Value: c.PollTimeout},
	)}
	lag, every := settings.Or(c.MaxLag, DefaultMaxLag), settings.Or(c.PollInterval, DefaultPollInterval)
	if lag > 0 && lag < every {
		errs = append(errs, fmt.Errorf(
			"replica: MaxLag is %s; it must not be below PollInterval, %s: lag is not known better",
			lag, every,
		))
	}
	errs = append(errs, isolation.Validate("replica", c.Isolation, every))
	if c.Fallback < FallbackPrimary || c.Fallback > FallbackNone {
		errs = append(errs, fmt.Errorf("replica: Fallback is %s; it must be FallbackPrimary, FallbackStale or FallbackNone",
			c.Fallback))
	}
	if c.Fallback == FallbackNone && len(c.servers) == 1 {
		errs = append(errs, errors.New("replica: Fallback is FallbackNone, and there are no Replicas to read from"))
	}
	return errors.Join(errs...)
}

func (c config) validateNames() error {
	var errs []error
	names := map[string]bool{}
	for i, m := range c.servers {
		if names[m.name] {
			errs = append(errs, fmt.Errorf("replica %d: the name %q is taken", i, m.name))
		}
		names[m.name] = true
	}
	return errors.Join(errs...)
}

// validateURLs refuses URLs that are of another kind of server. Other forms of URL do not tell.
func (c config) validateURLs() error {
	var errs []error
	for _, m := range c.servers {
		errs = append(errs, faultsOf(m.name, c.kind.check(m.url)))
	}
	return errors.Join(errs...)
}

// faultsOf names the member in each of several joined faults.
func faultsOf(member string, err error) error {
	return settings.EachFault(err, func(fault error) error { return fmt.Errorf("%s: %w", member, fault) })
}
