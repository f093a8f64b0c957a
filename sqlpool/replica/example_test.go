package replica_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// exampleTB stands for the *testing.T that a test has, so that an example can run on fake servers.
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
	t := new(exampleTB)
	defer t.end()
	primary, standby := sqlpooltest.ServePostgres(t), sqlpooltest.ServePostgres(t) // in production: two servers
	standby.Standby(0)
	for server, name := range map[*sqlpooltest.PostgresServer]string{primary: "the primary", standby: "the standby"} {
		server.Answer("select who", sqlpooltest.Answer{Columns: []string{"who"}, Rows: [][]any{{name}}})
	}

	ctx := context.Background()
	orders, err := replica.NewPostgres(replica.PostgresConfig{
		Name:    "orders",
		Primary: sqlpool.PostgresConfig{URL: primary.URL(), MaxOpen: 20},
		Replicas: []sqlpool.PostgresConfig{
			{URL: standby.URL(), MaxOpen: 20, Start: poolkeeper.StartDegraded}, // start without it
		},
		MaxLag:       5 * time.Second,
		PollInterval: 10 * time.Millisecond,
		Logger:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	if err = orders.Start(ctx); err != nil { // or by a lifecycle.Registry
		log.Fatal(err)
	}

	read := func() {
		var who string
		// Ask for a Replica each time: which one it is may change.
		if err := orders.Replica().Pool().QueryRow(ctx, "select who").Scan(&who); err != nil {
			log.Fatal(err)
		}
		fmt.Println("read from", who)
	}
	read()

	standby.Standby(time.Minute) // it falls behind
	for orders.Members()[1].State == replica.StateReady {
		time.Sleep(time.Millisecond)
	}
	read()
	fmt.Println(orders.Check(ctx)) // health pages show a warning, not a failure

	fmt.Println(orders.Stop(ctx))
	// Output:
	// read from the standby
	// read from the primary
	// replica: check "orders/replica-1": 1m0s behind; MaxLag is 5s
	// <nil>
}

func ExampleNewMySQL() {
	t := new(exampleTB)
	defer t.end()
	primary := serveMySQL(t, mysql8("the primary", "0", sourceUUID+":1-100")) // in production: two servers
	standby := serveMySQL(t, mysql8("the replica", "1", sourceUUID+":1-100"))

	ctx := context.Background()
	orders, err := replica.NewMySQL(replica.MySQLConfig{
		Name:    "orders",
		Primary: sqlpool.MySQLConfig{URL: primary.url(), MaxOpen: 20},
		Replicas: []sqlpool.MySQLConfig{
			{URL: standby.url(), MaxOpen: 20, Start: poolkeeper.StartDegraded}, // start without it
		},
		PollInterval: 10 * time.Millisecond,
		Logger:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	if err = orders.Start(ctx); err != nil { // or by a lifecycle.Registry
		log.Fatal(err)
	}

	read := func() {
		tx, err := orders.BeginReadOnly(ctx) // or orders.Replica().DB(), for one query
		if err != nil {
			log.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		var who string
		if err := tx.QueryRowContext(ctx, "select who").Scan(&who); err != nil {
			log.Fatal(err)
		}
		fmt.Println("read from", who)
	}
	read()

	standby.set(askRole, row("0", "0", "8.0.36")) // it is promoted
	for orders.Members()[1].State == replica.StateReady {
		time.Sleep(time.Millisecond)
	}
	read()
	fmt.Println(orders.Check(ctx)) // health pages show a warning, not a failure

	fmt.Println(orders.Stop(ctx))
	// Output:
	// read from the replica
	// read from the primary
	// replica: check "orders/replica-1": the server is not read-only: it was promoted, or read_only was never set on it
	// <nil>
}
