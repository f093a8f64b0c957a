// Package sqlpooltest gives tests a started pool without a database.
//
// On sqlmock, for code that uses a *sql.DB:
//
//	func TestTransfer(t *testing.T) {
//		pool, mock := sqlpooltest.New(t)
//		mock.ExpectBegin()
//		mock.ExpectExec("UPDATE accounts").WillReturnResult(sqlmock.NewResult(0, 1))
//		mock.ExpectCommit()
//		transfer(t.Context(), pool.DB(), "alice", "bob", 10)
//	} // here the pool is stopped, and expectations that were not met fail the test
//
// On a fake PostgreSQL server, for code that uses a *pgxpool.Pool, and for what a real server
// cannot be made to do:
//
//	func TestReportSurvivesARestart(t *testing.T) {
//		pool, server := sqlpooltest.NewPostgres(t)
//		server.Answer("select name from users where id = $1", sqlpooltest.Answer{
//			Columns: []string{"name"}, Rows: [][]any{{"Ada"}},
//		})
//		server.Terminate() // every connection ends with 57P01
//		report(t.Context(), pool.Pool())
//	}
//
//	test ─┬─ pool.DB() ─── the same pool as in production ─── sqlmock's driver ─── mock.Expect…
//	      └─ pool.Pool() ─ the same pool as in production ─── a socket ─── fake server ─── Answer, Hang, Drop, ReadOnly …
//
// [NewPostgresInMemory] is for tests in a testing/synctest bubble. Time in a bubble does not
// advance while a goroutine waits on a socket. With the server in memory it does, so that hours of
// a pool's life take a moment.
//
// It refuses to be a database: what it is not told to answer is an error. It has no tables, no TLS,
// no COPY.
package sqlpooltest
