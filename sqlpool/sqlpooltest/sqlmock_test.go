package sqlpooltest_test

import (
	"fmt"
	"testing"

	"github.com/DATA-DOG/go-sqlmock"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPoolAnswersFromTheMock(t *testing.T) {
	pool, mock := sqlpooltest.New(t, func(c *sqlpool.DBConfig) { c.MaxOpen = 2 })
	mock.ExpectBegin()
	mock.ExpectExec("UPDATE accounts").WithArgs(10, "bob").WillReturnResult(sqlmock.NewResult(0, 1))
	mock.ExpectCommit()

	tx, err := pool.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "UPDATE accounts SET balance = balance + ? WHERE name = ?", 10, "bob"); err != nil {
		t.Fatal(err)
	}
	if n := len(pool.Holders()); n != 1 {
		t.Errorf("%d holders within a transaction, want 1", n)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := pool.Stats().Max; got != 2 {
		t.Errorf("MaxOpen is %d, want what the option said, 2", got)
	}
}

// recorder is a testing.TB that keeps errors to itself.
type recorder struct {
	testing.TB

	errors   []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(f string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(f, args...))
}

func TestExpectationThatIsNotMetFailsTheTest(t *testing.T) {
	r := &recorder{TB: t}
	_, mock := sqlpooltest.New(r)
	mock.ExpectExec("DELETE")
	for _, f := range r.cleanups {
		f()
	}
	if len(r.errors) == 0 {
		t.Error("no error for an expectation that was not met")
	}
}
