package replica

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/probe"
)

// Postgres is a PostgreSQL primary with its read replicas, as one component. All methods are safe
// for concurrent use. [MySQL] is the same for MySQL and MariaDB.
type Postgres struct{ *set }

// NewPostgres returns a PostgreSQL primary and its replicas as one component. It does no I/O; each
// pool has one goroutine that Stop or Abort ends. Every fault of cfg is reported at once, with
// cfg.Name.
func NewPostgres(cfg PostgresConfig) (*Postgres, error) {
	s, err := newSet(cfg.config())
	if err != nil {
		return nil, err
	}
	return &Postgres{s}, nil
}

// Primary returns the pool of the server that takes writes. The pool and its handles never change.
// After a failover it leads to the new primary if Primary.URL does: a name that moves, or several
// servers with target_session_attrs=read-write; connections to one that was demoted are replaced.
func (p *Postgres) Primary() *sqlpool.Postgres { return asPostgres(p.members[0].pool) }

// Replica returns the pool to read from now: the replicas that are fit in turn, or what Fallback
// says. It does no I/O, takes no lock and does not allocate: call it for each piece of work, and do
// not keep what it returns. A replica may not have a caller's latest writes yet, within MaxLag:
// read those from Primary.
//
// No replica is fit before the first poll, which Start makes.
func (p *Postgres) Replica() *sqlpool.Postgres { return asPostgres(p.next()) }

// Replicas returns the pools of the replicas in the order of their configuration, fit or not.
func (p *Postgres) Replicas() []*sqlpool.Postgres {
	out := make([]*sqlpool.Postgres, 0, len(p.members)-1)
	for _, m := range p.members[1:] {
		out = append(out, asPostgres(m.pool))
	}
	return out
}

// BeginReadOnly begins a read-only transaction on Replica, so that every server refuses a misplaced
// write. That includes the primary when it stands in for a replica. The transaction reads one state
// of one server. It blocks until it has a connection, at most until ctx ends or for the pool's
// AcquireTimeout.
func (p *Postgres) BeginReadOnly(ctx context.Context) (pgx.Tx, error) {
	return p.Replica().Pool().BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
}

func asPostgres(p pool) *sqlpool.Postgres {
	own, _ := p.(*sqlpool.Postgres) // its kind makes no other
	return own
}

func postgresKind() *kind {
	return &kind{
		typeName: "Postgres",
		check: func(url string) error {
			if isMySQL(url) {
				return errors.New("replica: URL is not PostgreSQL's; it is NewMySQL that takes it")
			}
			return nil
		},
		refuser: func(name, url string) (pool, error) {
			return sqlpool.NewPostgres(sqlpool.PostgresConfig{
				Name: name, URL: url, LeakThreshold: poolkeeper.Off,
				Configure: func(c *pgxpool.Config) error {
					c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { return ErrNoReplica }
					return nil
				},
			})
		},
		poll:     pollPostgres,
		demoted:  "the server is a standby: it takes no writes",
		promoted: "the server is not a standby: it was promoted, or is another's primary",
	}
}

func isMySQL(url string) bool {
	return strings.HasPrefix(url, "mysql://") || strings.HasPrefix(url, "mariadb://")
}

// lsn is a position in PostgreSQL's log.
type lsn uint64

func (l lsn) reaches(other position) bool {
	o, ok := other.(lsn)
	return ok && l >= o
}

const (
	postgresRole = "select pg_is_in_recovery()"
	// postgresLag asks a primary for what it has written out, and a standby for what it has
	// replayed. After a restart a standby has replayed more than it has received.
	postgresLag = postgresRole + `,
	coalesce((case when pg_is_in_recovery()
		then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end - '0/0')::bigint, 0),
	coalesce(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8, -1),
	coalesce(pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn(), false)`
)

// pollPostgres fills in o with what the server at c answers.
func pollPostgres(ctx context.Context, o *observation, c probe.Conn, ask question) error {
	query := postgresRole
	if ask.lag {
		query = postgresLag
	}
	_, rows, err := c.Query(ctx, query)
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return errors.New("the server answers with something else than one row")
	}
	row := rows[0]
	if len(row) == 0 {
		return errors.New("the server answers with no columns")
	}
	o.readOnly = row[0] == "t"
	if len(row) < 4 {
		return nil
	}
	at, err := strconv.ParseInt(row[1], 10, 64)
	if err != nil {
		return fmt.Errorf("position: %w", err)
	}
	seconds, err := strconv.ParseFloat(row[2], 64)
	if err != nil {
		return fmt.Errorf("age of what was replayed last: %w", err)
	}
	if at > 0 {
		o.position = lsn(at)
	}
	if seconds >= 0 {
		o.reported = time.Duration(seconds * float64(time.Second))
	}
	o.caughtUp = row[3] == "t"
	return nil
}
