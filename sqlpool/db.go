package sqlpool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// DB is a *sql.DB of any driver whose connections are opened, watched and closed in order. All
// methods are safe for concurrent use.
type DB struct{ dbPool }

// NewDB returns a pool of the connections of any database/sql driver. It does no I/O; as sql.OpenDB
// does, it starts one goroutine that Stop or Abort ends. Every fault of cfg is reported at once,
// with cfg.Name.
//
// The driver's optional interfaces work through the pool as they do without it. Code that uses the
// driver's own connection through sql.Conn.Raw needs [Native].
func NewDB(connector driver.Connector, cfg DBConfig) (*DB, error) {
	if connector == nil {
		err := errors.New("sqlpool: NewDB: connector is nil")
		return nil, settings.Named("sqlpool", cfg.Name, errors.Join(cfg.Validate(), err))
	}
	p, err := newDBPool("db", cfg.config(), func(c config, _ secretFiles) (driver.Connector, config, error) {
		return connector, c.withDefaults("db"), c.validate()
	})
	if err != nil {
		return nil, settings.Named("sqlpool", cfg.Name, err)
	}
	return &DB{p}, nil
}

// Reload replaces the configuration while the pool works. It first checks all of cfg, and returns
// every fault and every change that is not possible. Only then does it change anything. New sizes
// and times apply at once. It blocks until then, at most until ctx ends. An empty Name keeps the
// old one.
func (p *DB) Reload(ctx context.Context, cfg DBConfig) error { return p.m.reload(ctx, cfg.config()) }

// Plan returns the changes that Reload with cfg would make. Its error joins every fault of cfg and
// every change that is not possible. It changes nothing and does not dial.
func (p *DB) Plan(cfg DBConfig) ([]poolkeeper.Change, error) { return p.m.planned(cfg.config()) }

// dbPool is what [MySQL] and [DB] have in common: a *sql.DB.
type dbPool struct {
	pool

	back *dbBackend
}

// newDBPool makes a pool of connections that are opened as resolve says.
func newDBPool(kind string, cfg config, resolve resolver) (dbPool, error) {
	on := cfg.readFiles()
	connector, cfg, err := resolve(cfg, on)
	if err != nil {
		return dbPool{}, err
	}
	b := newDBBackend(newBase(cfg, kind), connector, resolve)
	b.db = sql.OpenDB(dbConnector{b})
	b.db.SetMaxIdleConns(math.MaxInt32) // the backend has the limits
	b.base.evictor = eviction.New(b, cfg.policy())
	return dbPool{pool{component{newManager(b.base, b, on)}}, b}, nil
}

// DB returns the handle. The handle never changes. It works before Start, and refuses work with
// [poolkeeper.ErrDraining] once draining has begun. SetMaxOpenConns and its kin belong to the pool:
// do not call them. A caller may close the handle: the pool then ends its own work, and Stop still
// waits for what is in flight.
func (p *dbPool) DB() *sql.DB { return p.back.db }
