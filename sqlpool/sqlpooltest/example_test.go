package sqlpooltest_test

import (
	"testing"

	"github.com/DATA-DOG/go-sqlmock"

	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

func ExampleNew() {
	_ = func(t *testing.T) { // a test
		t.Helper()
		pool, mock := sqlpooltest.New(t)
		mock.ExpectExec("DELETE FROM carts").WillReturnResult(sqlmock.NewResult(0, 3))
		if _, err := pool.DB().ExecContext(t.Context(), "DELETE FROM carts WHERE old"); err != nil {
			t.Fatal(err)
		}
	} // the pool is stopped, and what was expected is verified, when the test ends
	// Output:
}
