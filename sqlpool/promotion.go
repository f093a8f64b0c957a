package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// sendSeeker looks for the promoted server while writes are refused: a name may move seconds after the
// demotion. A seeker opens a connection of its own and asks whether the server there takes writes. Then
// the pool is reset at once, and not only when the next reset is due. err is the refusal, pause the
// time between two resets.
//
//	a write is refused ──▶ reset ──▶ and refused again ──▶ seeker, 10/s at first ──▶ takes writes: reset
//	                                                                             └▶ does not: the next refusal
//	                                                                                sends another
//
// Refusals alone send seekers, so that a pool that writes nothing opens no connections.
func (m *manager) sendSeeker(err error, pause time.Duration) {
	query := writableQuery(err)
	if query == "" || m.cfg().DisableResetOnReadOnly || !m.seekers.Begin() {
		return
	}
	// Owner: the pool. It ends with DialTimeout, or with the pool's life; shut waits for it.
	m.work.Go(func() {
		began := monotime.Now()
		generation := m.recovery.generation.Load()
		found := m.takesWrites(query)
		m.seekers.End(began, pause, m.pace.Interval())
		if found {
			m.promoted(generation, err)
		}
	})
}

// takesWrites asks a new connection. A server that does not answer, or not this question, does not.
func (m *manager) takesWrites(query string) (yes bool) {
	ctx, cancel := context.WithTimeout(m.life, m.cfg().DialTimeout)
	defer cancel()
	m.pace.Spend()
	err := m.events.Guarded("a hook, in a look for the promoted server,", func() (err error) {
		yes, err = m.back.takesWrites(ctx, query)
		return err
	})
	return err == nil && yes
}

// writableQuery asks whether a server takes writes, in the dialect of the one that has refused one.
// It has one row and one column, which is "off" or "0" if so. Empty: the dialect is not known.
func writableQuery(err error) string {
	if _, ok := errors.AsType[*pgconn.PgError](err); ok {
		return "show transaction_read_only" // on for every transaction of a standby
	}
	if _, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return "select @@global.read_only + @@global.innodb_read_only"
	}
	return ""
}

// writable interprets the answer to writableQuery.
func writable(answer string) (bool, error) {
	switch answer {
	case "off", "0":
		return true, nil
	case "on", "1", "2":
		return false, nil
	}
	return false, fmt.Errorf("sqlpool: the server says %q to whether it is read-only", answer)
}
