package sqlpool_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// A wrapped driver must behave as the bare one: the same calls of the driver in the same order, the
// same results and errors, for every set of optional interfaces that its connections can have.
func TestWrappedDriverBehavesAsBareDriver(t *testing.T) {
	for _, f := range combinations() {
		bareTrace, bareOut := onBareDB(t, f)
		trace, out := onPool(t, f)
		if !slices.Equal(trace, bareTrace) {
			t.Fatalf("features %010b: calls of the driver differ\nbare:    %s\nwrapped: %s\nfirst difference: %s", f,
				strings.Join(bareTrace, ", "), strings.Join(trace, ", "), firstDifference(bareTrace, trace))
		}
		if !slices.Equal(out, bareOut) {
			t.Fatalf("features %010b: outcomes differ: %s", f, firstDifference(bareOut, out))
		}
	}
}

func firstDifference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("#%d: bare %q, wrapped %q", i, a[i], b[i])
		}
	}
	return fmt.Sprintf("lengths %d and %d", len(a), len(b))
}

func onBareDB(t *testing.T, f feature) (trace, out []string) {
	t.Helper()
	s := newFakeServer()
	s.features = f
	db := sql.OpenDB(s)
	db.SetMaxIdleConns(4)
	out = script(t, s, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return s.takeTrace(), out
}

func onPool(t *testing.T, f feature) (trace, out []string) {
	t.Helper()
	s := newFakeServer()
	s.features = f
	p, err := sqlpool.NewDB(s, sqlpool.DBConfig{MaxOpen: 4})
	if err != nil {
		t.Fatal(err)
	}
	out = script(t, s, p.DB())
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.takeTrace(), out
}

type ctxKey struct{}

// script is everything that users do to a *sql.DB, one thing after the other.
func script(t *testing.T, s *fakeServer, db *sql.DB) []string {
	t.Helper()
	ctx := context.WithValue(t.Context(), ctxKey{}, "the caller's")
	var out []string
	note := func(what string, args ...any) { out = append(out, what+": "+fmt.Sprint(args...)) }
	s.dial.set(func(ctx context.Context) error {
		note("dial", ctx.Value(ctxKey{}))
		return nil
	})

	note("ping", db.PingContext(ctx))
	exec := func(query string, args ...any) {
		_, err := db.ExecContext(ctx, query, args...)
		note("exec "+query, err)
	}
	exec("plain")
	exec("args", 1, "two", time.Unix(3, 0).UTC(), nil, []byte("x"))
	exec("ints", []int{1, 2})          // only a NamedValueChecker takes it
	exec("named", sql.Named("n", 1))   // old interfaces have no names
	exec("unknown", struct{ A int }{}) // no driver takes it
	exec("skip to statement", 7)
	exec("skip convert", 7, []int{3})
	exec("skip check", 7, "seven", []int{3})
	exec("skip check convert", 7, "seven", []int{3})
	exec("skip old", 7)
	exec("skip old named", sql.Named("n", 1))
	exec("fail")

	query := func(query string, args ...any) {
		var id int
		err := db.QueryRowContext(ctx, query, args...).Scan(&id)
		note("query "+query, id, err)
	}
	query("plain", 5)
	query("named", sql.Named("n", 1))
	query("skip to statement", []int{9})
	query("skip old", 1)
	query("fail")

	prepared(ctx, db, note)
	transactions(ctx, t, s, db, note)
	cancelled(ctx, s, db, note)
	sticky(ctx, t, db, note)

	exec("bad") // retried on another connection
	note("after bad", db.Stats().OpenConnections)
	s.breakAll()
	exec("after the server has closed everything")
	note("open", db.Stats().OpenConnections)
	return out
}

func prepared(ctx context.Context, db *sql.DB, note func(string, ...any)) {
	for _, q := range []string{"stmt", "stmt convert", "stmt check", "stmt check convert", "stmt old", "stmt fail"} {
		st, err := db.PrepareContext(ctx, q)
		if err != nil {
			note("prepare", err)
			continue
		}
		_, err = st.ExecContext(ctx, 1, "two")
		note("stmt exec", err)
		_, err = st.ExecContext(ctx, sql.Named("n", 1))
		note("stmt exec named", err)
		var id int
		note("stmt query", st.QueryRowContext(ctx, []int{4}).Scan(&id), id)
		note("stmt close", closeErr(st))
	}
}

func closeErr(c io.Closer) error { return c.Close() }

func transactions(ctx context.Context, t *testing.T, s *fakeServer, db *sql.DB, note func(string, ...any)) {
	t.Helper()
	for _, o := range []*sql.TxOptions{nil, {Isolation: sql.LevelSerializable}, {ReadOnly: true}} {
		tx, err := db.BeginTx(ctx, o)
		note("begin", err)
		if err != nil {
			continue
		}
		_, err = tx.ExecContext(ctx, "in tx", 1)
		note("tx exec", err, tx.Commit())
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	note("rollback", tx.Rollback())

	// Rolled back by its context: database/sql keeps the connection only if the driver can reset
	// and validate it.
	txCtx, cancel := context.WithCancel(ctx)
	if _, err = db.BeginTx(txCtx, nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	for db.Stats().InUse > 0 {
		time.Sleep(100 * time.Microsecond) // database/sql rolls back in a goroutine of its own
	}
	note("open after rollback by context", db.Stats().OpenConnections, s.Open())
}

// cancelled ends contexts at the moment the driver works, which is when database/sql's own checks
// would be over.
func cancelled(ctx context.Context, s *fakeServer, db *sql.DB, note func(string, ...any)) {
	for _, what := range []string{"prepare", "begin"} {
		ending, cancel := context.WithCancel(ctx)
		s.during.set(func(method string) {
			if strings.EqualFold(method, what) || strings.EqualFold(method, what+"Context") || strings.EqualFold(method, what+"Tx") {
				cancel()
			}
		})
		var err error
		if what == "prepare" {
			_, err = db.ExecContext(ending, "skip while ending")
		} else {
			_, err = db.BeginTx(ending, nil)
			for db.Stats().InUse > 0 {
				time.Sleep(100 * time.Microsecond) // database/sql rolls back in a goroutine of its own
			}
		}
		s.during.set(nil)
		cancel()
		note("cancelled in "+what, err)
	}
}

func sticky(ctx context.Context, t *testing.T, db *sql.DB, note func(string, ...any)) {
	t.Helper()
	c, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ExecContext(ctx, "on a conn", 1)
	note("conn exec", err)
	note("conn ping", c.PingContext(ctx))
	note("raw", c.Raw(func(dc any) error {
		native, ok := sqlpool.Native(dc).(driver.Conn)
		if !ok {
			return errors.New("no driver.Conn")
		}
		_, pings := native.(driver.Pinger)
		note("native pings", pings)
		return nil
	}))
	note("close", c.Close())
	c, err = db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	note("raw bad", c.Raw(func(any) error { return driver.ErrBadConn }), db.Stats().OpenConnections)
}
