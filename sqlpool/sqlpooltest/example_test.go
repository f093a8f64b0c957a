package sqlpooltest_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"

	"github.com/poolkeeper/poolkeeper/sqlpool"
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

// exampleTB stands for the *testing.T that a test has: an example has none.
type exampleTB struct {
	testing.TB

	cleanups []func()
}

func (*exampleTB) Helper()                   {}
func (*exampleTB) Context() context.Context  { return context.Background() }
func (*exampleTB) Errorf(f string, a ...any) { fmt.Printf(f+"\n", a...) }
func (*exampleTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (tb *exampleTB) Cleanup(f func())       { tb.cleanups = append(tb.cleanups, f) }
func (tb *exampleTB) end() {
	for i := range tb.cleanups {
		tb.cleanups[len(tb.cleanups)-1-i]()
	}
}

func ExampleNewPostgres() {
	t := &exampleTB{} // in a test: its *testing.T
	defer t.end()

	pool, server := sqlpooltest.NewPostgres(t)
	server.Answer("select name from users where id = $1", sqlpooltest.Answer{
		Columns: []string{"name"}, Rows: [][]any{{"Ada"}},
	})
	var name string
	err := pool.Pool().QueryRow(t.Context(), "select name from users where id = $1", 7).Scan(&name)
	fmt.Println(name, err, server.Queries())

	server.RefuseLogins("57P03", "the database system is starting up")
	server.Terminate()
	fmt.Println(pool.Check(t.Context()) != nil)
	server.Heal()
	fmt.Println(pool.Check(t.Context()))
	// Output:
	// Ada <nil> [{select name from users where id = $1 [7]}]
	// true
	// <nil>
}

func ExampleNewPostgresInMemory() {
	_ = func(t *testing.T) { // a test
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			pool, _ := sqlpooltest.NewPostgresInMemory(t, func(c *sqlpool.PostgresConfig) { c.MinIdle, c.MaxLifetime = 2, time.Hour })
			time.Sleep(24 * time.Hour) // a day of the pool's life, and a moment of the test's
			t.Log(pool.Stats().Evicted)
		})
	}
	// Output:
}

func ExamplePostgresServer_Slow() {
	t := &exampleTB{} // in a test: its *testing.T
	defer t.end()

	pool, server := sqlpooltest.NewPostgres(t)
	server.Slow(time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := pool.Pool().Exec(ctx, "set application_name = 'patience'")
	fmt.Println(ctx.Err(), err != nil)
	// Output: context deadline exceeded true
}
