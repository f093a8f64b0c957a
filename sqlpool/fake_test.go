package sqlpool_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// fakeServer is a database that does as it is told, in memory, and notes what drivers' methods were
// called. Queries are commands:
//
//	"sleep 2s"   takes that long, or until its context ends
//	"bad"        breaks the connection: ErrBadConn, once per server
//	"skip …"     ErrSkip from the direct paths
//	"fail …"     an error
//	anything     works; a query returns one row, the connection's number
type fakeServer struct {
	features feature                           // optional interfaces of its connections
	dial     hook[func(context.Context) error] // runs in Connect; none: works at once
	ping     hook[func(context.Context) error] // runs in Ping; none: works at once
	closing  hook[func()]                      // runs in Close of a connection
	during   hook[func(method string)]         // runs in Prepare, Begin and Stmt.Close, of whatever kind

	dieWhenGivenUp bool                             // a connection is closed when its caller gives a query up
	writeError     atomic.Pointer[mysql.MySQLError] // what demoted connections refuse writes with

	writable atomic.Bool // it says that it takes writes, whatever it does

	mu     sync.Mutex // guards the following
	trace  []string
	open   map[int]*fakeConn
	dialed int
	bad    int // how many "bad" queries still break
	badGot int

	demoted int // connections dialled up to this number refuse writes
}

// hook is a function that a test can change while the pool works.
type hook[F any] struct {
	mu sync.Mutex
	f  F
}

func (h *hook[F]) set(f F) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.f = f
}

func (h *hook[F]) get() F {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.f
}

func newFakeServer() *fakeServer {
	s := &fakeServer{features: allFeatures, open: make(map[int]*fakeConn), bad: 1}
	s.writeError.Store(&mysql.MySQLError{Number: 1290, Message: "The server is running with the --read-only option"})
	return s
}

func (s *fakeServer) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = append(s.trace, fmt.Sprintf(format, args...))
}

func (s *fakeServer) runDuring(method string) {
	if f := s.during.get(); f != nil {
		f(method)
	}
}

func (s *fakeServer) takeTrace() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.trace
	s.trace = nil
	return out
}

// blackhole makes every open connection silent from now on.
func (s *fakeServer) blackhole() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		c.silent = true
	}
}

// demote makes the connections dialled up to number n refuse writes.
func (s *fakeServer) demote(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.demoted = n
}

// Open and Dialed count connections, those of checks included.
func (s *fakeServer) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

func (s *fakeServer) Dialed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialed
}

// breakAll makes every open connection fail from now on.
func (s *fakeServer) breakAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		c.broken = true
	}
}

// Connect and Driver make it a driver.Connector.
func (s *fakeServer) Connect(ctx context.Context) (driver.Conn, error) {
	if f := s.dial.get(); f != nil {
		if err := f(ctx); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialed++
	c := &fakeConn{s: s, id: s.dialed}
	s.open[c.id] = c
	return combine(s.features, c), nil
}

func (s *fakeServer) Driver() driver.Driver { return fakeDriver{} }

type fakeDriver struct{}

func (fakeDriver) Open(string) (driver.Conn, error) { return nil, errors.New("fake: no DSN") }

// fakeConn has every optional interface; combine leaves out what a test does not want.
type fakeConn struct {
	s  *fakeServer
	id int

	mu     sync.Mutex // guards the following; more than a driver needs, because tests look in
	inUse  bool
	broken bool // guarded by s.mu
	silent bool // guarded by s.mu
}

var errFake = errors.New("fake: told to fail")

// run is what every way to run a query ends in.
func (c *fakeConn) run(ctx context.Context, query string) error {
	c.mu.Lock()
	if c.inUse {
		c.mu.Unlock()
		panic("fake: a connection is used by two at once")
	}
	c.inUse = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.inUse = false
	}()
	c.s.mu.Lock()
	broken, silent, demoted := c.broken, c.silent, c.id <= c.s.demoted
	breaks := query == "bad" && c.s.badGot < c.s.bad
	if breaks {
		c.s.badGot++
	}
	c.s.mu.Unlock()
	if breaks || broken {
		return driver.ErrBadConn
	}
	if silent {
		<-ctx.Done()
		c.die()
		return ctx.Err()
	}
	if query == "write" && demoted {
		return c.s.writeError.Load()
	}
	if d, ok := strings.CutPrefix(query, "sleep "); ok {
		err := sleepFor(ctx, d)
		if err != nil && c.s.dieWhenGivenUp {
			c.die()
		}
		return err
	}
	if strings.HasPrefix(query, "fail") {
		return errFake
	}
	return nil
}

func (c *fakeConn) die() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.broken = true
}

func sleepFor(ctx context.Context, text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *fakeConn) Prepare(query string) (driver.Stmt, error) {
	c.s.note("Prepare %s", query)
	c.s.runDuring("Prepare")
	return c.prepared(query), nil
}

func (c *fakeConn) PrepareContext(_ context.Context, query string) (driver.Stmt, error) {
	c.s.note("PrepareContext %s", query)
	c.s.runDuring("PrepareContext")
	return c.prepared(query), nil
}

// prepared varies the statement's own optional interfaces by the query.
func (c *fakeConn) prepared(query string) driver.Stmt {
	st := &fakeStmt{c: c, query: query}
	switch {
	case strings.Contains(query, "check convert"):
		return checkingConvertingStmt{convertingStmt{st}}
	case strings.Contains(query, "check"):
		return checkingStmt{st}
	case strings.Contains(query, "convert"):
		return convertingStmt{st}
	case strings.Contains(query, "old"):
		return struct{ driver.Stmt }{st}
	default:
		return st
	}
}

func (c *fakeConn) Close() error {
	c.s.note("Close")
	if f := c.s.closing.get(); f != nil {
		f()
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.open[c.id] == nil {
		panic("fake: a connection is closed twice")
	}
	delete(c.s.open, c.id)
	return nil
}

func (c *fakeConn) Begin() (driver.Tx, error) {
	c.s.note("Begin")
	c.s.runDuring("Begin")
	return &fakeTx{c}, nil
}

func (c *fakeConn) BeginTx(_ context.Context, o driver.TxOptions) (driver.Tx, error) {
	c.s.note("BeginTx %d %v", o.Isolation, o.ReadOnly)
	c.s.runDuring("BeginTx")
	return &fakeTx{c}, nil
}

func (c *fakeConn) Ping(ctx context.Context) error {
	c.s.note("Ping")
	if f := c.s.ping.get(); f != nil {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return c.run(ctx, "ping")
}

func (c *fakeConn) ResetSession(context.Context) error {
	c.s.note("ResetSession")
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.broken {
		return driver.ErrBadConn
	}
	return nil
}

func (c *fakeConn) IsValid() bool {
	c.s.note("IsValid")
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return !c.broken
}

func (c *fakeConn) CheckNamedValue(v *driver.NamedValue) error {
	switch x := v.Value.(type) {
	case []int: // only this driver knows it
		v.Value = fmt.Sprint(x)
		return nil
	case nil:
		return driver.ErrRemoveArgument
	default:
		return driver.ErrSkip
	}
}

func (c *fakeConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.s.note("ExecContext %s %v", query, args)
	if strings.HasPrefix(query, "skip") {
		return nil, driver.ErrSkip
	}
	return driver.RowsAffected(1), c.run(ctx, query)
}

func (c *fakeConn) Exec(query string, args []driver.Value) (driver.Result, error) {
	c.s.note("Exec %s %v", query, args)
	if strings.HasPrefix(query, "skip") {
		return nil, driver.ErrSkip
	}
	return driver.RowsAffected(1), c.run(context.Background(), query)
}

func (c *fakeConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.s.note("QueryContext %s %v", query, args)
	if strings.HasPrefix(query, "skip") {
		return nil, driver.ErrSkip
	}
	if strings.Contains(query, "read_only") {
		return c.readOnly(), c.run(ctx, query)
	}
	return c.rows(), c.run(ctx, query)
}

// readOnly answers whether the server refuses writes.
func (c *fakeConn) readOnly() driver.Rows {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.id <= c.s.demoted && !c.s.writable.Load() {
		return &fakeRows{values: []driver.Value{int64(1)}}
	}
	return &fakeRows{values: []driver.Value{int64(0)}}
}

func (c *fakeConn) Query(query string, args []driver.Value) (driver.Rows, error) {
	c.s.note("Query %s %v", query, args)
	if strings.HasPrefix(query, "skip") {
		return nil, driver.ErrSkip
	}
	return c.rows(), c.run(context.Background(), query)
}

func (c *fakeConn) rows() driver.Rows { return &fakeRows{values: []driver.Value{int64(c.id)}} }

type fakeRows struct{ values []driver.Value }

func (r *fakeRows) Columns() []string { return []string{"conn"} }
func (r *fakeRows) Close() error      { return nil }
func (r *fakeRows) Next(dest []driver.Value) error {
	if len(r.values) == 0 {
		return io.EOF
	}
	dest[0], r.values = r.values[0], r.values[1:]
	return nil
}

type fakeTx struct{ c *fakeConn }

func (t *fakeTx) Commit() error   { t.c.s.note("Commit"); return nil }
func (t *fakeTx) Rollback() error { t.c.s.note("Rollback"); return nil }

type fakeStmt struct {
	c     *fakeConn
	query string
}

func (s *fakeStmt) Close() error {
	s.c.s.note("Stmt.Close %s", s.query)
	s.c.s.runDuring("Stmt.Close")
	return nil
}

func (s *fakeStmt) NumInput() int { return -1 }

func (s *fakeStmt) Exec(args []driver.Value) (driver.Result, error) {
	s.c.s.note("Stmt.Exec %s %v", s.query, args)
	return driver.RowsAffected(1), s.c.run(context.Background(), s.query)
}

func (s *fakeStmt) Query(args []driver.Value) (driver.Rows, error) {
	s.c.s.note("Stmt.Query %s %v", s.query, args)
	return s.c.rows(), s.c.run(context.Background(), s.query)
}

func (s *fakeStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	s.c.s.note("Stmt.ExecContext %s %v", s.query, args)
	return driver.RowsAffected(1), s.c.run(ctx, s.query)
}

func (s *fakeStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	s.c.s.note("Stmt.QueryContext %s %v", s.query, args)
	return s.c.rows(), s.c.run(ctx, s.query)
}

// convertingStmt has a ColumnConverter, which comes before or after the connection's own checker.
type convertingStmt struct{ *fakeStmt }

func (s convertingStmt) ColumnConverter(int) driver.ValueConverter { return doubling{} }

// checkingStmt has a NamedValueChecker of its own, which replaces the connection's.
type checkingStmt struct{ *fakeStmt }

func (s checkingStmt) CheckNamedValue(v *driver.NamedValue) error {
	if text, ok := v.Value.(string); ok {
		v.Value = "checked " + text
		return nil
	}
	return driver.ErrSkip
}

type checkingConvertingStmt struct{ convertingStmt }

func (s checkingConvertingStmt) CheckNamedValue(v *driver.NamedValue) error {
	return checkingStmt(s.convertingStmt).CheckNamedValue(v)
}

type doubling struct{}

func (doubling) ConvertValue(v any) (driver.Value, error) {
	if n, ok := v.(int); ok {
		return int64(2 * n), nil
	}
	return driver.DefaultParameterConverter.ConvertValue(v)
}

// fakePool starts a pool on a fake server and stops it at the end of the test.
func fakePool(t *testing.T, s *fakeServer, cfg sqlpool.DBConfig) *sqlpool.DB {
	t.Helper()
	p, err := sqlpool.NewDB(s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = p.Stop(ctx) // a test that wants its outcome has called it before
	})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// shutAll closes what a test has opened.
func shutAll(t *testing.T, closers ...io.Closer) {
	t.Helper()
	for _, c := range closers {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
