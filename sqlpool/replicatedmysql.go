package sqlpool

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// ReplicatedMySQL is a MySQL or MariaDB primary with its read replicas, as one component: what
// [Replicated] is for PostgreSQL, with the same life, states and fallbacks. Primary and Reader
// return a [*Pool], whose handle is a *sql.DB. All methods are safe for concurrent use.
//
// read_only tells which server takes writes. It must be on at every replica, as failover tools and
// providers set it. A replica where it is off counts as promoted. (innodb_read_only counts alike:
// Amazon Aurora's readers have it.)
//
// GTIDs tell how far a replica is behind: gtid_binlog_pos and gtid_slave_pos on MariaDB, where they
// are always on; gtid_executed on MySQL, where gtid_mode must be ON or ON_PERMISSIVE. Reading them
// takes no privilege. Where they do not tell, the pool runs SHOW REPLICA STATUS, which needs
// REPLICATION CLIENT on MySQL and REPLICA MONITOR (SLAVE MONITOR) on MariaDB. If gtid_mode is off,
// it does so at each look, and the lag is the one that the replica reports. Otherwise it does so
// until the replica has reached the position at which the primary was first seen. Until then the
// replica counts as lagging, and [Member].Err says why, with the state of its replication. Once a
// position of the primary is known, only positions tell the lag.
type ReplicatedMySQL struct{ replication }

// NewReplicatedMySQL returns a MySQL or MariaDB primary and its replicas as one component. It does
// no I/O; each pool has one goroutine that Stop or Abort ends. Every fault of cfg is reported at
// once, with ReplicatedConfig.Name.
func NewReplicatedMySQL(cfg ReplicatedConfig) (*ReplicatedMySQL, error) {
	r := new(ReplicatedMySQL)
	if err := r.prepare(mysqlDialect(), cfg); err != nil {
		return nil, err
	}
	return r, nil
}

// Primary returns the pool of the server that takes writes. The pool and its handle never change.
// After a failover it leads to the new primary if the name or address of Primary.URL does: the
// driver knows no URL of several servers. Connections to one that has become read-only are replaced
// as soon as that is seen.
func (r *ReplicatedMySQL) Primary() *Pool { return asPool(r.members[0].pool) }

// Reader returns the pool to read from now: the replicas that are fit in turn, or what Fallback
// says. It does no I/O, takes no lock and does not allocate: call it for each piece of work, and do
// not keep what it returns. A replica may not have a caller's latest writes yet, within MaxLag:
// read those from Primary.
//
// No replica is fit before the first look, which Start makes.
func (r *ReplicatedMySQL) Reader() *Pool { return asPool(r.reader()) }

// Replicas returns the pools of the replicas in the order of their configuration, fit or not.
func (r *ReplicatedMySQL) Replicas() []*Pool {
	out := make([]*Pool, 0, len(r.members)-1)
	for _, m := range r.members[1:] {
		out = append(out, asPool(m.pool))
	}
	return out
}

// BeginReadOnly begins a read-only transaction on Reader, so that every server refuses a misplaced
// write. That includes the primary when it stands in for a replica, and users that are exempt from
// read_only. At the default isolation, REPEATABLE READ, the transaction reads one state of one
// server. It blocks until it has a connection, at most until ctx ends or for the pool's
// AcquireTimeout. As with sql.DB.BeginTx, the transaction is rolled back when ctx ends.
func (r *ReplicatedMySQL) BeginReadOnly(ctx context.Context) (*sql.Tx, error) {
	return r.Reader().DB().BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
}

func asPool(w watched) *Pool {
	p, _ := w.(*Pool) // the dialect makes no other
	return p
}

func mysqlDialect() *dialect {
	return &dialect{
		scheme: func(url string) error {
			if scheme, _, _ := strings.Cut(url, "://"); scheme == "postgres" || scheme == "postgresql" {
				return errors.New("sqlpool: URL is PostgreSQL's; it is NewReplicated that takes it")
			}
			return nil
		},
		pool: func(cfg Config) (watched, error) { return newMySQL(cfg) },
		nowhere: func(cfg Config) (watched, error) {
			cfg.ConfigureMySQL = func(c *mysql.Config) error {
				return c.Apply(mysql.BeforeConnect(func(context.Context, *mysql.Config) error { return ErrNoReplica }))
			}
			return newMySQL(cfg)
		},
		demoted:  "the server is read-only (read_only is on): it takes no writes",
		promoted: "the server is not read-only: it was promoted, or read_only was never set on it",
	}
}

// look asks the server what it is and how far it has come. Pools of other drivers than MySQL's are
// never asked.
func (p *Pool) look(ctx context.Context, ask question) *sight {
	return take(func(s *sight) error {
		b, ok := p.c.back.(*driverBackend)
		if !ok {
			return errors.ErrUnsupported
		}
		return b.probe.use(ctx, func(ctx context.Context, n *native) error { return s.readMySQL(ctx, n, ask) })
	})
}

func (p *Pool) failedOver() { p.c.failedOver() }

func (p *Pool) forgetCheck(ctx context.Context) {
	if b, ok := p.c.back.(*driverBackend); ok {
		b.probe.forget(ctx)
	}
}
