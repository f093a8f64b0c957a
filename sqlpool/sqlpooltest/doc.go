// Package sqlpooltest gives tests a started pool without a server.
//
//	func TestTransfer(t *testing.T) {
//		pool, mock := sqlpooltest.New(t)
//		mock.ExpectBegin()
//		mock.ExpectExec("UPDATE accounts").WillReturnResult(sqlmock.NewResult(0, 1))
//		mock.ExpectCommit()
//		transfer(t.Context(), pool.DB(), "alice", "bob", 10)
//	} // here the pool is stopped, and expectations that were not met fail the test
//
//	test ── pool.DB() ── the same pool as in production ── sqlmock's driver ── mock.Expect…
//
// It refuses to be a database: what sqlmock is not told to expect is an error.
package sqlpooltest
