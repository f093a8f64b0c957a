package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/internal/settings"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// Defaults of the configurations.
const (
	DefaultMaxLag       = 10 * time.Second
	DefaultPollInterval = time.Second
	DefaultPollTimeout  = 2 * time.Second
)

// PostgresConfig configures [NewPostgres]. The zero value of each field means its default. No
// duration may be longer than 100 years.
type PostgresConfig struct {
	// Name is the name in logs, errors and metrics until SetName gives another; a Registry does.
	// Default: "replicated". The pools are named after it: "orders/primary", "orders/replica-1".
	Name string

	// Primary is the server that takes writes. A URL that names several servers and has
	// target_session_attrs=read-write makes it follow a failover: see [Postgres.Primary]. Its Name
	// is not used.
	Primary sqlpool.PostgresConfig

	// Replicas are the servers that are read from: streaming standbys of Primary. A Name replaces
	// "replica-1" and so on. Start holds for each by itself: choose StartDegraded to start while a
	// replica is away. DisableResetOnReadOnly is always true here. May be empty, as on a
	// developer's machine, unless Fallback is FallbackNone.
	Replicas []sqlpool.PostgresConfig

	// MaxLag is how far a replica may be behind and still be read from. It is accurate to
	// PollInterval, and refers to the last time the primary answered. Default: DefaultMaxLag. Off:
	// ignored, for servers that do not report it, such as Amazon Aurora's. Bounds: not below
	// PollInterval.
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

	// Isolation takes replicas that serve worse than the others out of rotation. It scores the polls
	// and the traffic: how long connections are held, errors of connections, and how full each pool
	// is. An isolated replica still counts as fit. While no other replica is fit, it gets the reads,
	// and Fallback does not apply. Default: off. Bounds: After is at least six times PollInterval.
	Isolation poolkeeper.Isolation

	// Logger gets changes in the state of the servers. Default: slog.Default(). The pools have
	// their own.
	Logger *slog.Logger
}

// Validate returns every fault of c that can be seen without parsing URLs, joined, or nil. It
// changes nothing.
func (c PostgresConfig) Validate() error { return c.config().validate() }

// String prints what is set, the pools' configurations as [sqlpool.PostgresConfig.String] does.
func (c PostgresConfig) String() string { return settings.Config("replica.PostgresConfig", c) }

// Format prints String, whatever the verb.
func (c PostgresConfig) Format(f fmt.State, _ rune) { printing.Format(f, c) }

// LogValue is String, for slog.
func (c PostgresConfig) LogValue() slog.Value { return printing.LogValue(c) }

// MarshalJSON returns String as a JSON string.
func (c PostgresConfig) MarshalJSON() ([]byte, error) { return printing.JSON(c) }

// MySQLConfig configures [NewMySQL]. The zero value of each field means its default. No duration
// may be longer than 100 years.
type MySQLConfig struct {
	// Name is the name in logs, errors and metrics until SetName gives another; a Registry does.
	// Default: "replicated". The pools are named after it: "orders/primary", "orders/replica-1".
	Name string

	// Primary is the server that takes writes. Its Name is not used.
	Primary sqlpool.MySQLConfig

	// Replicas are the servers that are read from: replicas of Primary that are read-only. A Name
	// replaces "replica-1" and so on. Start holds for each by itself: choose StartDegraded to start
	// while a replica is away. DisableResetOnReadOnly is always true here. May be empty, as on a
	// developer's machine, unless Fallback is FallbackNone.
	Replicas []sqlpool.MySQLConfig

	// MaxLag is how far a replica may be behind and still be read from. It is accurate to
	// PollInterval, and refers to the last time the primary answered. Default: DefaultMaxLag. Off:
	// ignored, for servers that do not report it, such as Amazon Aurora's. Others report it by
	// GTIDs: see [MySQL]. Bounds: not below PollInterval.
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

	// Isolation takes replicas that serve worse than the others out of rotation. It scores the polls
	// and the traffic: how long connections are held, errors of connections, and how full each pool
	// is. An isolated replica still counts as fit. While no other replica is fit, it gets the reads,
	// and Fallback does not apply. Default: off. Bounds: After is at least six times PollInterval.
	Isolation poolkeeper.Isolation

	// Logger gets changes in the state of the servers. Default: slog.Default(). The pools have
	// their own.
	Logger *slog.Logger
}

// Validate returns every fault of c that can be seen without parsing URLs, joined, or nil. It
// changes nothing.
func (c MySQLConfig) Validate() error { return c.config().validate() }

// String prints what is set, the pools' configurations as [sqlpool.MySQLConfig.String] does.
func (c MySQLConfig) String() string { return settings.Config("replica.MySQLConfig", c) }

// Format prints String, whatever the verb.
func (c MySQLConfig) Format(f fmt.State, _ rune) { printing.Format(f, c) }

// LogValue is String, for slog.
func (c MySQLConfig) LogValue() slog.Value { return printing.LogValue(c) }

// MarshalJSON returns String as a JSON string.
func (c MySQLConfig) MarshalJSON() ([]byte, error) { return printing.JSON(c) }

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
// replica is fit. It occurs only if Fallback is [FallbackNone].
var ErrNoReplica = errors.New("replica: no replica is fit to be read from")
