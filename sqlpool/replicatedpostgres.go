package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Replicated is a PostgreSQL primary with its read replicas, as one component: one pool for each,
// started, watched, drained and stopped together. All methods are safe for concurrent use.
//
//	                 ┌────────── looks, every LookInterval ──────────┐
//	                 │ answers? standby? how far has it come?        │
//	Primary() ──▶ pool ──▶ primary ── streams ─┬─▶ replica-1 ◀── pool ◀─┐
//	                 ▲                         └─▶ replica-2 ◀── pool ◀─┴── Reader(): in turn, those that answer
//	                 └──────── Fallback ────────────────────────────────────  and are at most MaxLag behind
//
// [ReplicatedMySQL] is the same for MySQL and MariaDB.
type Replicated struct{ replication }

// NewReplicated returns a PostgreSQL primary and its replicas as one component. It does no I/O;
// each pool has one goroutine that Stop or Abort ends. Every fault of cfg is reported at once, with
// ReplicatedConfig.Name.
func NewReplicated(cfg ReplicatedConfig) (*Replicated, error) {
	r := new(Replicated)
	if err := r.prepare(postgresDialect(), cfg); err != nil {
		return nil, err
	}
	return r, nil
}

// Primary returns the pool of the server that takes writes. The pool and its handles never change.
// After a failover it leads to the new primary if Primary.URL does: a name that moves, or several
// servers with target_session_attrs=read-write; connections to one that was demoted are replaced.
func (r *Replicated) Primary() *Postgres { return asPostgres(r.members[0].pool) }

// Reader returns the pool to read from now: the replicas that are fit in turn, or what Fallback
// says. It does no I/O, takes no lock and does not allocate: call it for each piece of work, and do
// not keep what it returns. A replica may not have a caller's latest writes yet, within MaxLag:
// read those from Primary.
//
// No replica is fit before the first look, which Start makes.
func (r *Replicated) Reader() *Postgres { return asPostgres(r.reader()) }

// Replicas returns the pools of the replicas in the order of their configuration, fit or not.
func (r *Replicated) Replicas() []*Postgres {
	out := make([]*Postgres, 0, len(r.members)-1)
	for _, m := range r.members[1:] {
		out = append(out, asPostgres(m.pool))
	}
	return out
}

// BeginReadOnly begins a read-only transaction on Reader, so that every server refuses a misplaced
// write. That includes the primary when it stands in for a replica. The transaction reads one state
// of one server. It blocks until it has a connection, at most until ctx ends or for the pool's
// AcquireTimeout.
func (r *Replicated) BeginReadOnly(ctx context.Context) (pgx.Tx, error) {
	return r.Reader().Pool().BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
}

func asPostgres(w watched) *Postgres {
	p, _ := w.(*Postgres) // the dialect makes no other
	return p
}

func postgresDialect() *dialect {
	return &dialect{
		scheme: func(url string) error {
			if isMySQL(url) {
				return errors.New("sqlpool: URL is not PostgreSQL's; it is NewReplicatedMySQL that takes it")
			}
			return nil
		},
		pool: func(cfg Config) (watched, error) { return newPostgres(cfg) },
		nowhere: func(cfg Config) (watched, error) {
			cfg.ConfigurePostgres = func(c *pgxpool.Config) error {
				c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { return ErrNoReplica }
				return nil
			}
			return newPostgres(cfg)
		},
		demoted:  "the server is a standby: it takes no writes",
		promoted: "the server is not a standby: it was promoted, or is another's primary",
	}
}

func isMySQL(url string) bool {
	return strings.HasPrefix(url, "mysql://") || strings.HasPrefix(url, "mariadb://")
}

// lsn is a place in PostgreSQL's log.
type lsn uint64

func (l lsn) reaches(other place) bool {
	o, ok := other.(lsn)
	return ok && l >= o
}

const (
	lookRole = "select pg_is_in_recovery()"
	// lookAll asks a primary for what it has written out, and a standby for what it has replayed.
	// After a restart a standby has replayed more than it has received.
	lookAll = lookRole + `,
	coalesce((case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end - '0/0')::bigint, 0),
	coalesce(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8, -1),
	coalesce(pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn(), false)`
)

// look asks the server what it is and how far it has come.
func (p *Postgres) look(ctx context.Context, ask question) *sight {
	query := lookRole
	if ask.lag {
		query = lookAll
	}
	return take(func(s *sight) error {
		return p.back.probe.use(ctx, func(ctx context.Context, c *pgx.Conn) error {
			s.begin()
			results, err := c.PgConn().Exec(ctx, query).ReadAll()
			if err != nil {
				return err
			}
			if len(results) != 1 || len(results[0].Rows) != 1 {
				return errors.New("the server answers with something else than one row")
			}
			return s.readPostgres(results[0].Rows[0])
		})
	})
}

func (p *Postgres) failedOver() { p.c.failedOver() }

func (p *Postgres) forgetCheck(ctx context.Context) { p.back.probe.forget(ctx) }

// readPostgres takes over one row, in text format.
func (s *sight) readPostgres(row [][]byte) error {
	if len(row) == 0 {
		return errors.New("the server answers with no columns")
	}
	s.standby = string(row[0]) == "t"
	if len(row) < 4 {
		return nil
	}
	at, err := strconv.ParseInt(string(row[1]), 10, 64)
	if err != nil {
		return fmt.Errorf("position: %w", err)
	}
	behind, err := strconv.ParseFloat(string(row[2]), 64)
	if err != nil {
		return fmt.Errorf("age of what was replayed last: %w", err)
	}
	if at > 0 {
		s.place = lsn(at)
	}
	if behind >= 0 {
		s.behind = time.Duration(behind * float64(time.Second))
	}
	s.caughtUp = string(row[3]) == "t"
	return nil
}
