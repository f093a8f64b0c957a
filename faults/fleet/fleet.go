package fleet

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/retry"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// MaxOpen is how many connections, and callers, an instance has.
const MaxOpen = 20

// The times of a caller.
const (
	hold     = 900 * time.Millisecond // how long it holds a connection
	think    = 100 * time.Millisecond // the mean pause before its next call
	pause    = time.Second            // the mean time after a call that failed
	deadline = 10 * time.Second       // the deadline of a call
)

// Kind is the kind of pool that an instance uses.
type Kind int

// Kinds of pools.
const (
	Raw      Kind = iota // database/sql alone
	Alone                // sqlpool.NewDB without Instances
	DB                   // sqlpool.NewDB
	Postgres             // sqlpool.NewPostgres
)

// String returns the name of the kind in tables.
func (k Kind) String() string {
	return [...]string{"database/sql, raw", "NewDB without Instances", "NewDB", "NewPostgres"}[k]
}

// Fleet runs many instances of one service. Each has a pool of MaxOpen connections and as many
// callers. All of them use the clock of the bubble in which the Fleet is made.
type Fleet struct {
	kind    Kind
	size    int // the Instances of the pools
	server  *Server
	answers *sqlpooltest.PostgresServer // of Postgres
	files   string                      // CredentialsFile of Postgres

	succeeded, failed atomic.Int64
}

// pool is a managed pool.
type pool interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// instance is one process.
type instance struct {
	fleet *Fleet
	pool  pool
	query func(ctx context.Context) error
	end   context.CancelFunc // of its callers
	work  sync.WaitGroup
}

// launch starts an instance.
func (f *Fleet) launch(ctx context.Context) (*instance, error) {
	in := &instance{fleet: f}
	if err := in.makePool(); err != nil {
		return nil, err
	}
	if err := in.pool.Start(ctx); err != nil {
		return nil, err
	}
	ctx, in.end = context.WithCancel(ctx)
	for range MaxOpen {
		in.work.Go(func() { in.call(ctx) }) // ends with ctx; stop waits for it
	}
	return in, nil
}

func (in *instance) makePool() error {
	f, quiet := in.fleet, slog.New(slog.DiscardHandler)
	switch f.kind {
	case Raw:
		db := sql.OpenDB(f.server)
		db.SetMaxOpenConns(MaxOpen)
		db.SetMaxIdleConns(MaxOpen)
		in.pool, in.query = raw{db}, in.execOn(db)
	case Alone, DB:
		cfg := sqlpool.DBConfig{MaxOpen: MaxOpen, Start: poolkeeper.StartDegraded, DisableLeakStacks: true, Logger: quiet}
		if f.kind == DB {
			cfg.Instances = f.size
		}
		p, err := sqlpool.NewDB(f.server, cfg)
		if err != nil {
			return err
		}
		in.pool, in.query = p, in.execOn(p.DB())
	case Postgres:
		cfg := sqlpool.PostgresConfig{
			MaxOpen: MaxOpen, Instances: f.size, Start: poolkeeper.StartDegraded, DisableLeakStacks: true,
			CredentialsFile: f.files, Logger: quiet,
		}
		f.server.through(f.answers, &cfg)
		p, err := sqlpool.NewPostgres(cfg)
		if err != nil {
			return err
		}
		in.pool, in.query = p, func(ctx context.Context) error { _, err := p.Pool().Exec(ctx, "work"); return err }
	}
	return nil
}

func (in *instance) execOn(db *sql.DB) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, hold.String())
		return err
	}
}

// call runs one caller until ctx ends.
func (in *instance) call(ctx context.Context) {
	mean := think
	for retry.Sleep(ctx, time.Duration(rand.ExpFloat64()*float64(mean))) {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline)
		err := in.query(bounded)
		cancel()
		if err == nil {
			mean = think
			in.fleet.succeeded.Add(1)
		} else {
			mean = pause
			in.fleet.failed.Add(1)
		}
	}
}

// stop waits for the calls in flight and closes the pool.
func (in *instance) stop(ctx context.Context) error {
	in.end()
	in.work.Wait()
	return in.pool.Stop(ctx)
}

// raw makes a *sql.DB a pool.
type raw struct{ *sql.DB }

func (raw) Start(context.Context) error  { return nil }
func (r raw) Stop(context.Context) error { return r.Close() }

// launchAll launches n instances at random moments within spread.
func (f *Fleet) launchAll(ctx context.Context, n int, spread time.Duration) ([]*instance, error) {
	all, errs := make([]*instance, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { // waited for below
			if retry.Sleep(ctx, rand.N(spread)) {
				all[i], errs[i] = f.launch(ctx)
			}
		})
	}
	wg.Wait()
	return all, errors.Join(errs...)
}

// stopAll stops all at once.
func stopAll(ctx context.Context, all []*instance) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, in := range all {
		wg.Go(func() { errs[i] = in.stop(ctx) }) // waited for below
	}
	wg.Wait()
	return errors.Join(errs...)
}
