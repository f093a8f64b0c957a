package sqlpool

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Defaults of the configurations.
const (
	DefaultMaxOpen        = 10
	DefaultMaxIdleTime    = 5 * time.Minute
	DefaultMaxLifetime    = 30 * time.Minute
	DefaultLifetimeJitter = 0.1
	DefaultKeepAlive      = 2 * time.Minute
	DefaultAcquireTimeout = 5 * time.Second
	DefaultDialTimeout    = 5 * time.Second
	DefaultLeakThreshold  = 5 * time.Minute
	DefaultFailFastAfter  = 3 * time.Second
	DefaultMaxDials       = 10
	DefaultCloseGrace     = 250 * time.Millisecond
	DefaultFileInterval   = 10 * time.Second
)

// config has the fields of all public configurations, each of which is converted to it. The
// comments stand there. A field that a kind of pool does not have is zero.
type config struct {
	Name string
	URL  string

	MaxOpen        int
	MaxOpenCeiling int
	MinIdle        int

	MaxIdleTime      time.Duration
	MaxLifetime      time.Duration
	LifetimeJitter   float64
	KeepAlive        time.Duration
	EvictionInterval time.Duration

	AcquireTimeout time.Duration
	QueryTimeout   time.Duration
	MaxWaiting     int
	DialTimeout    time.Duration
	FailFastAfter  time.Duration
	MaxDials       int

	LeakThreshold     time.Duration
	ReclaimAfter      time.Duration
	DisableLeakStacks bool

	SuspectPing            time.Duration
	DisableResetOnReadOnly bool
	DisablePeek            bool
	CloseGrace             time.Duration

	Start     poolkeeper.StartPolicy
	Instances int

	TLS             *tls.Config
	Credentials     func(ctx context.Context) (user, password string, err error)
	TLSFiles        poolkeeper.TLSFiles
	CredentialsFile string
	FileInterval    time.Duration

	CheckQuery        string
	ConfigurePostgres func(*pgxpool.Config) error
	ConfigureMySQL    func(*mysql.Config) error
	Logger            *slog.Logger
}

// maxMaxOpen is far beyond what any server grants; it catches a typing error.
const maxMaxOpen = 65_535

func (c config) maxOpenOrDefault() int {
	if c.MaxOpen == 0 {
		return DefaultMaxOpen
	}
	return c.MaxOpen
}

// withDefaults returns c with every zero field that has a default filled in, and Off turned into
// the zero that the rest of the package understands as off. SuspectPing stays as it is: its zero
// follows the link.
func (c config) withDefaults(kind string) config {
	if c.Name == "" {
		c.Name = kind
	}
	c.MaxOpen = c.maxOpenOrDefault()
	c.MaxIdleTime = settings.Or(c.MaxIdleTime, DefaultMaxIdleTime)
	c.MaxLifetime = settings.Or(c.MaxLifetime, DefaultMaxLifetime)
	c.KeepAlive = settings.Or(c.KeepAlive, DefaultKeepAlive)
	c.AcquireTimeout = settings.Or(c.AcquireTimeout, DefaultAcquireTimeout)
	c.DialTimeout = settings.Or(c.DialTimeout, DefaultDialTimeout)
	c.FailFastAfter = settings.Or(c.FailFastAfter, DefaultFailFastAfter)
	c.LeakThreshold = settings.Or(c.LeakThreshold, DefaultLeakThreshold)
	c.CloseGrace = settings.Or(c.CloseGrace, DefaultCloseGrace)
	c.FileInterval = settings.Or(c.FileInterval, DefaultFileInterval)
	if c.LifetimeJitter == 0 {
		c.LifetimeJitter = DefaultLifetimeJitter
	}
	if c.MaxDials == 0 {
		c.MaxDials = DefaultMaxDials
	}
	c.MaxDials = min(c.MaxDials, c.MaxOpen)
	c.Instances = max(c.Instances, 1)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// files are what is read from disk.
func (c config) files() onfile.Names {
	return onfile.Names{TLSFiles: c.TLSFiles, Credentials: c.CredentialsFile}
}

func (c config) readFiles() secretFiles {
	held, err := onfile.Read("sqlpool: ", c.files())
	return secretFiles{held, err, c}
}

// secretFiles is what the files of a configuration hold, or why they cannot be used.
type secretFiles struct {
	onfile.Contents

	err   error
	asked config // the configuration, as it was given
}
