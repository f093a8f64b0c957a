package sqlpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	mysqlRole = "select @@global.read_only, @@global.innodb_read_only, @@version"

	// Of a MariaDB without a binary log gtid_binlog_pos is empty, as of one in which nothing has
	// been written.
	mariadbPlace = "select @@global.log_bin, @@global.gtid_binlog_pos, @@global.gtid_slave_pos, @@global.gtid_domain_id"
	mariadbWord  = "show all slaves status" // every connection to a primary, and known since 10.0

	mysqlPlace   = "select @@global.gtid_mode, @@global.gtid_executed"
	mysqlWord    = "show replica status" // MySQL 8.0.22
	mysqlOldWord = "show slave status"   // gone with MySQL 8.4

	syntaxError = 1064
)

// readMySQL fills in what the server at n says.
func (s *sight) readMySQL(ctx context.Context, n *native, ask question) error {
	s.begin()
	row, err := n.texts(ctx, mysqlRole, 3)
	if err != nil {
		return err
	}
	s.standby = isOn(row[0]) || isOn(row[1])
	if !ask.lag {
		return nil
	}
	mariadb := strings.Contains(strings.ToLower(row[2]), "mariadb")
	s.at = time.Now()
	if mariadb {
		err = s.placeOnMariaDB(ctx, n)
	} else {
		err = s.placeOnMySQL(ctx, n)
	}
	if err != nil {
		return fmt.Errorf("position: %w", err)
	}
	if !s.standby || s.place != nil && ask.reached(s.place) {
		return nil
	}
	return s.ownWord(ctx, n, mariadb)
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

// placeOnMariaDB fills in the place: of a replica what it has applied, of a primary what it has
// written for replicas to fetch. One that was promoted and has not written since has that only as
// what it applied before, which counts in the domain that it writes in; in others that may be what
// its replicas were never given.
func (s *sight) placeOnMariaDB(ctx context.Context, n *native) error {
	row, err := n.texts(ctx, mariadbPlace, 4)
	if err != nil {
		return err
	}
	written, err1 := parseDomains(row[1])
	applied, err2 := parseDomains(row[2])
	own, err3 := strconv.ParseUint(row[3], 10, 32)
	switch err := errors.Join(err1, err2, err3); {
	case err != nil:
		return err
	case s.standby:
		s.place = applied
	case !isOn(row[0]):
		s.blind = errors.New("log_bin is off: it has no replicas")
	default:
		if seq := max(written[uint32(own)], applied[uint32(own)]); seq > 0 {
			written[uint32(own)] = seq
		}
		s.place = written
	}
	return nil
}

func (s *sight) placeOnMySQL(ctx context.Context, n *native) error {
	row, err := n.texts(ctx, mysqlPlace, 2)
	if err != nil {
		return err
	}
	if mode := strings.ToUpper(row[0]); mode != "ON" && mode != "ON_PERMISSIVE" {
		s.blind = fmt.Errorf("gtid_mode is %s", row[0])
		return nil
	}
	all, err := parseExecuted(row[1])
	if err != nil {
		return err
	}
	s.place = all
	return nil
}

// ownWord fills in what a replica itself says of its lag, or why it does not. It returns an error
// if the server does not answer.
func (s *sight) ownWord(ctx context.Context, n *native, mariadb bool) error {
	query := mysqlWord
	if mariadb {
		query = mariadbWord
	}
	all, err := n.table(ctx, query)
	e, refused := errors.AsType[*mysql.MySQLError](err)
	if refused && e.Number == syntaxError && !mariadb {
		query = mysqlOldWord
		all, err = n.table(ctx, query)
		_, refused = errors.AsType[*mysql.MySQLError](err)
	}
	var why error
	switch {
	case refused:
		why = fmt.Errorf("%s: %w", query, err)
	case err != nil:
		return err
	case len(all) == 0:
		why = fmt.Errorf("%s: it replicates from no server", query)
	default:
		why = s.believe(all)
	}
	switch {
	case why == nil:
	case s.blind == nil:
		s.blind = why
	default:
		s.blind = fmt.Errorf("%w, and %w", s.blind, why)
	}
	return nil
}

// believe takes over what a replica says of each server it replicates from: the worst counts.
func (s *sight) believe(all []map[string]string) error {
	var stopped error
	s.behind, s.caughtUp = 0, true
	for _, from := range all {
		word := func(name string) string { return either(from, name) }
		seconds, err := strconv.Atoi(word("Seconds_Behind_Source"))
		if err != nil { // NULL
			stopped = fmt.Errorf("replication does not run (receiver: %s, applier: %s, last error: %s)",
				word("Replica_IO_Running"), word("Replica_SQL_Running"), word("Last_Errno"))
		}
		s.behind = max(s.behind, time.Duration(seconds)*time.Second)
		s.caughtUp = s.caughtUp && word("Replica_SQL_Running") == "Yes" &&
			word("Relay_Source_Log_File") == word("Source_Log_File") && word("Exec_Source_Log_Pos") == word("Read_Source_Log_Pos")
	}
	if stopped != nil {
		s.behind = unknownLag
	}
	return stopped
}

// either reads a column by its name of today, or the one it had before and has on MariaDB.
func either(row map[string]string, name string) string {
	if v, ok := row[name]; ok {
		return v
	}
	return row[strings.NewReplacer("Source", "Master", "Replica", "Slave").Replace(name)]
}

// texts returns the one row of a query of the pool's own, as text. It fails if the row does not
// have that many columns.
func (n *native) texts(ctx context.Context, query string, columns int) ([]string, error) {
	row, err := n.row(ctx, query)
	if err != nil {
		return nil, err
	}
	if len(row) != columns {
		return nil, errors.New("the server answers with other columns than were asked for")
	}
	out := make([]string, len(row))
	for i, v := range row {
		out[i] = text(v)
	}
	return out, nil
}

// table returns all rows of a query of the pool's own, as text, by column.
func (n *native) table(ctx context.Context, query string) (out []map[string]string, err error) {
	if !n.queries() {
		return nil, errors.ErrUnsupported
	}
	rows, err := n.query(ctx, query, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns := rows.Columns()
	values := make([]driver.Value, len(columns))
	for {
		if err = rows.Next(values); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		row := make(map[string]string, len(columns))
		for i, c := range columns {
			row[c] = text(values[i])
		}
		out = append(out, row)
	}
}

// text is a value as the server shows it; NULL is "NULL", as SHOW prints it.
func text(v driver.Value) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		return string(v)
	default:
		return fmt.Sprint(v)
	}
}
