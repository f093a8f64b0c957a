package sqlpool_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// connector stands for any driver's: sqlite's, go-mssqldb's, pgx/stdlib's.
func connector() *fakeServer { return newFakeServer() }

func ExampleNewDB() {
	ctx := context.Background()
	orders, err := sqlpool.NewDB(connector(), sqlpool.DBConfig{Name: "orders", MaxOpen: 20, MinIdle: 2})
	if err != nil {
		log.Fatal(err)
	}
	if err = orders.Start(ctx); err != nil {
		log.Fatal(err)
	}
	var id int
	err = orders.DB().QueryRowContext(ctx, "select …").Scan(&id)
	fmt.Println(err, orders.Stats().Max)

	stop, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	fmt.Println(orders.Stop(stop))
	// Output:
	// <nil> 20
	// <nil>
}

func ExampleNewMySQL() {
	orders, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{
		URL:     "mysql://shop:p%40ss@db.internal/orders?parseTime=true", // or the driver's own "shop:p@ss@tcp(db.internal:3306)/orders"
		MaxOpen: 20,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = orders.Stop(context.Background()) }()
	// orders.Start(ctx), or a lifecycle.Registry's, comes before the first query.
	fmt.Println(orders.Stats().Dials)
	// Output: 0
}

func ExampleAdopt() {
	db := sql.OpenDB(connector()) // opened by other code
	legacy, err := sqlpool.Adopt(db, sqlpool.AdoptConfig{Name: "legacy"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(legacy.Check(context.Background()))
	fmt.Println(legacy.Stop(context.Background()))
	// Output:
	// <nil>
	// <nil>
}

func ExampleDB_Drain() {
	ctx := context.Background()
	orders, err := sqlpool.NewDB(connector(), sqlpool.DBConfig{})
	if err != nil {
		log.Fatal(err)
	}
	tx, err := orders.DB().BeginTx(ctx, nil) // in flight
	if err != nil {
		log.Fatal(err)
	}
	drained := make(chan error)
	go func() { drained <- orders.Drain(ctx) }()
	for {
		if _, err = orders.DB().ExecContext(ctx, "insert …"); err != nil {
			break // the drain has begun
		}
	}
	fmt.Println("new work is refused:", errors.Is(err, poolkeeper.ErrDraining))
	_, err = tx.ExecContext(ctx, "update …")
	fmt.Println("the transaction goes on:", err, tx.Commit())
	fmt.Println("drained:", <-drained, orders.Stop(ctx))
	// Output:
	// new work is refused: true
	// the transaction goes on: <nil> <nil>
	// drained: <nil> <nil>
}

func Example_acquireError() {
	ctx := context.Background()
	orders, err := sqlpool.NewDB(connector(), sqlpool.DBConfig{MaxOpen: 1, AcquireTimeout: 10 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	held, err := orders.DB().Conn(ctx)
	if err != nil {
		log.Fatal(err)
	}
	_, err = orders.DB().ExecContext(ctx, "insert …")
	if e, ok := errors.AsType[*poolkeeper.AcquireError](err); ok {
		fmt.Printf("%d of %d in use; oldest %s…\n", e.InUse, e.Max, e.Oldest[0].Kind)
	}
	fmt.Println(errors.Is(err, context.DeadlineExceeded), held.Close(), orders.Stop(ctx))
	// Output:
	// 1 of 1 in use; oldest conn…
	// true <nil> <nil>
}

// A server that cannot be reached is an error that says what to look at first.
func ExampleAskPostgres() {
	a, err := sqlpool.AskPostgres(context.Background(), sqlpool.PostgresConfig{
		URL: "postgres://app@127.0.0.1:1/orders?sslmode=disable", MaxOpen: 20, Instances: 12,
	})
	if err != nil {
		fmt.Println(sqlpool.Classify(err).Advice)
	}
	fmt.Println(a.Limits.Demand, "connections at most")
	// Output:
	// nothing listens at that address: is the server up, are host and port right?
	// 315 connections at most
}

func ExampleNative() {
	orders, err := sqlpool.NewDB(connector(), sqlpool.DBConfig{})
	if err != nil {
		log.Fatal(err)
	}
	c, err := orders.DB().Conn(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	err = c.Raw(func(driverConn any) error {
		_, isPinger := sqlpool.Native(driverConn).(interface{ Ping(context.Context) error })
		fmt.Println("the driver's own connection can ping:", isPinger)
		return nil
	})
	fmt.Println(err, c.Close(), orders.Stop(context.Background()))
	// Output:
	// the driver's own connection can ping: true
	// <nil> <nil> <nil>
}

func ExamplePostgresConfig_Validate() {
	err := sqlpool.PostgresConfig{MaxOpen: 5, MinIdle: 10, KeepAlive: -time.Second}.Validate()
	fmt.Println(err)
	// Output:
	// sqlpool: MinIdle is 10; it must be 0 to MaxOpen, 5
	// sqlpool: KeepAlive is -1s; it must be positive, 0 (the default) or Off
}
