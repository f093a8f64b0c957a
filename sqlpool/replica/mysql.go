package replica

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/probe"
)

// MySQL is a MySQL or MariaDB primary with its read replicas, as one component: what [Postgres] is
// for PostgreSQL. Primary and Replica return a [*sqlpool.MySQL], whose handle is a *sql.DB. All
// methods are safe for concurrent use.
//
// read_only tells which server takes writes. It must be on at every replica, as failover tools and
// providers set it. A replica where it is off counts as promoted. (innodb_read_only counts alike:
// Amazon Aurora's readers have it.)
//
// GTIDs tell how far a replica is behind: gtid_binlog_pos and gtid_slave_pos on MariaDB, where they
// are always on; gtid_executed on MySQL, where gtid_mode must be ON or ON_PERMISSIVE. Reading them
// takes no privilege. Where they do not tell, the pool runs SHOW REPLICA STATUS, which needs
// REPLICATION CLIENT on MySQL and REPLICA MONITOR (SLAVE MONITOR) on MariaDB. If gtid_mode is off,
// it does so at each poll, and the lag is the one that the replica reports. Otherwise it does so
// until the replica has reached the position at which the primary was first seen. Until then the
// replica counts as lagging, and [Member].Err says why, with the state of its replication. Once a
// position of the primary is known, only positions tell the lag.
type MySQL struct{ *set }

// NewMySQL returns a MySQL or MariaDB primary and its replicas as one component. It does no I/O;
// each pool has one goroutine that Stop or Abort ends. Every fault of cfg is reported at once, with
// cfg.Name.
func NewMySQL(cfg MySQLConfig) (*MySQL, error) {
	s, err := newSet(cfg.config())
	if err != nil {
		return nil, err
	}
	return &MySQL{s}, nil
}

// Primary returns the pool of the server that takes writes. The pool and its handle never change.
// After a failover it leads to the new primary if the name or address of Primary.URL does: the
// driver knows no URL of several servers. Connections to one that has become read-only are replaced
// as soon as that is seen.
func (m *MySQL) Primary() *sqlpool.MySQL { return asMySQL(m.members[0].pool) }

// Replica returns the pool to read from now: the replicas that are fit in turn, or what Fallback
// says. It does no I/O, takes no lock and does not allocate: call it for each piece of work, and do
// not keep what it returns. A replica may not have a caller's latest writes yet, within MaxLag:
// read those from Primary.
//
// No replica is fit before the first poll, which Start makes.
func (m *MySQL) Replica() *sqlpool.MySQL { return asMySQL(m.next()) }

// Replicas returns the pools of the replicas in the order of their configuration, fit or not.
func (m *MySQL) Replicas() []*sqlpool.MySQL {
	out := make([]*sqlpool.MySQL, 0, len(m.members)-1)
	for _, r := range m.members[1:] {
		out = append(out, asMySQL(r.pool))
	}
	return out
}

// BeginReadOnly begins a read-only transaction on Replica, so that every server refuses a misplaced
// write. That includes the primary when it stands in for a replica, and users that are exempt from
// read_only. At the default isolation, REPEATABLE READ, the transaction reads one state of one
// server. It blocks until it has a connection, at most until ctx ends or for the pool's
// AcquireTimeout. As with sql.DB.BeginTx, the transaction is rolled back when ctx ends.
func (m *MySQL) BeginReadOnly(ctx context.Context) (*sql.Tx, error) {
	return m.Replica().DB().BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
}

func asMySQL(p pool) *sqlpool.MySQL {
	own, _ := p.(*sqlpool.MySQL) // its kind makes no other
	return own
}

func mysqlKind() *kind {
	return &kind{
		typeName: "MySQL",
		check: func(url string) error {
			if scheme, _, _ := strings.Cut(url, "://"); scheme == "postgres" || scheme == "postgresql" {
				return errors.New("replica: URL is PostgreSQL's; it is NewPostgres that takes it")
			}
			return nil
		},
		refuser: func(name, url string) (pool, error) {
			return sqlpool.NewMySQL(sqlpool.MySQLConfig{
				Name: name, URL: url, LeakThreshold: poolkeeper.Off,
				Configure: func(c *mysql.Config) error {
					return c.Apply(mysql.BeforeConnect(func(context.Context, *mysql.Config) error { return ErrNoReplica }))
				},
			})
		},
		poll:     pollMySQL,
		demoted:  "the server is read-only (read_only is on): it takes no writes",
		promoted: "the server is not read-only: it was promoted, or read_only was never set on it",
	}
}

const (
	mysqlRole = "select @@global.read_only, @@global.innodb_read_only, @@version"

	// Of a MariaDB without a binary log gtid_binlog_pos is empty, as of one in which nothing has
	// been written.
	mariadbPosition = "select @@global.log_bin, @@global.gtid_binlog_pos, @@global.gtid_slave_pos, " +
		"@@global.gtid_domain_id"
	mariadbStatus = "show all slaves status" // every connection to a primary, and known since 10.0

	mysqlPosition  = "select @@global.gtid_mode, @@global.gtid_executed"
	mysqlStatus    = "show replica status" // MySQL 8.0.22
	mysqlOldStatus = "show slave status"   // gone with MySQL 8.4

	syntaxError = 1064
)

// pollMySQL fills in o with what the server at c answers.
func pollMySQL(ctx context.Context, o *observation, c probe.Conn, ask question) error {
	row, err := oneRow(ctx, c, mysqlRole, 3)
	if err != nil {
		return err
	}
	o.readOnly = isOn(row[0]) || isOn(row[1])
	if !ask.lag {
		return nil
	}
	mariadb := strings.Contains(strings.ToLower(row[2]), "mariadb")
	o.at = time.Now()
	if mariadb {
		err = o.positionOnMariaDB(ctx, c)
	} else {
		err = o.positionOnMySQL(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("position: %w", err)
	}
	if !o.readOnly || o.position != nil && ask.reached(o.position) {
		return nil
	}
	return o.reportedLag(ctx, c, mariadb)
}

// isOn reads a switch. In newer versions of MariaDB read_only has more values than two.
func isOn(v string) bool {
	switch strings.ToUpper(v) {
	case "", "0", "OFF", "FALSE":
		return false
	default:
		return true
	}
}

// positionOnMariaDB fills in the position: of a replica what it has applied, of a primary what it
// has written for replicas to fetch. One that was promoted and has not written since has that only
// as what it applied before, which counts in the domain that it writes in; in others that may be
// what its replicas were never given.
func (o *observation) positionOnMariaDB(ctx context.Context, c probe.Conn) error {
	row, err := oneRow(ctx, c, mariadbPosition, 4)
	if err != nil {
		return err
	}
	written, err1 := parseMariaDBGTIDs(row[1])
	applied, err2 := parseMariaDBGTIDs(row[2])
	own, err3 := strconv.ParseUint(row[3], 10, 32)
	switch err := errors.Join(err1, err2, err3); {
	case err != nil:
		return err
	case o.readOnly:
		o.position = applied
	case !isOn(row[0]):
		o.gap = errors.New("log_bin is off: it has no replicas")
	default:
		if seq := max(written[uint32(own)], applied[uint32(own)]); seq > 0 {
			written[uint32(own)] = seq
		}
		o.position = written
	}
	return nil
}

func (o *observation) positionOnMySQL(ctx context.Context, c probe.Conn) error {
	row, err := oneRow(ctx, c, mysqlPosition, 2)
	if err != nil {
		return err
	}
	if mode := strings.ToUpper(row[0]); mode != "ON" && mode != "ON_PERMISSIVE" {
		o.gap = fmt.Errorf("gtid_mode is %s", row[0])
		return nil
	}
	all, err := parseMySQLGTIDs(row[1])
	if err != nil {
		return err
	}
	o.position = all
	return nil
}

// reportedLag fills in the lag that a replica reports, or why it reports none. It returns an error
// if the server does not answer.
func (o *observation) reportedLag(ctx context.Context, c probe.Conn, mariadb bool) error {
	query := mysqlStatus
	if mariadb {
		query = mariadbStatus
	}
	columns, rows, err := c.Query(ctx, query)
	e, refused := errors.AsType[*mysql.MySQLError](err)
	if refused && e.Number == syntaxError && !mariadb {
		query = mysqlOldStatus
		columns, rows, err = c.Query(ctx, query)
		_, refused = errors.AsType[*mysql.MySQLError](err)
	}
	var why error
	switch {
	case refused:
		why = fmt.Errorf("%s: %w", query, err)
	case err != nil:
		return err
	case len(rows) == 0:
		why = fmt.Errorf("%s: it replicates from no server", query)
	default:
		why = o.readStatus(columns, rows)
	}
	switch {
	case why == nil:
	case o.gap == nil:
		o.gap = why
	default:
		o.gap = fmt.Errorf("%w, and %w", o.gap, why)
	}
	return nil
}

// readStatus takes over what a replica reports of each server it replicates from: the worst counts.
func (o *observation) readStatus(columns []string, rows [][]string) error {
	var stopped error
	o.reported, o.caughtUp = 0, true
	for _, row := range rows {
		value := func(name string) string { return statusValue(columns, row, name) }
		seconds, err := strconv.Atoi(value("Seconds_Behind_Source"))
		if err != nil { // NULL
			stopped = fmt.Errorf("replication does not run (receiver: %s, applier: %s, last error: %s)",
				value("Replica_IO_Running"), value("Replica_SQL_Running"), value("Last_Errno"))
		}
		o.reported = max(o.reported, time.Duration(seconds)*time.Second)
		o.caughtUp = o.caughtUp && value("Replica_SQL_Running") == "Yes" &&
			value("Relay_Source_Log_File") == value("Source_Log_File") &&
			value("Exec_Source_Log_Pos") == value("Read_Source_Log_Pos")
	}
	if stopped != nil {
		o.reported = unknownLag
	}
	return stopped
}

// statusValue returns a column by its name of today, or the one it had before and has on MariaDB. A
// column that is missing is "".
func statusValue(columns, row []string, name string) string {
	i := slices.Index(columns, name)
	if i < 0 {
		i = slices.Index(columns, strings.NewReplacer("Source", "Master", "Replica", "Slave").Replace(name))
	}
	if i < 0 {
		return ""
	}
	return row[i]
}

// oneRow returns the first row of a query's answer. It fails if there is none, or if it does not
// have that many columns.
func oneRow(ctx context.Context, c probe.Conn, query string, columns int) ([]string, error) {
	_, rows, err := c.Query(ctx, query)
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, errors.New("the server answers with no row")
	case len(rows[0]) != columns:
		return nil, errors.New("the server answers with other columns than were asked for")
	}
	return rows[0], nil
}
