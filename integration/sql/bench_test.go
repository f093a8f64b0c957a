package integration_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	gomysql "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// BenchmarkSelect1Ratio runs SELECT 1 on the bare driver, through sqlpool as it comes (stacks of
// holders on) and through otelsql as it comes (no provider: its spans and metrics go nowhere), in
// turns, in one process, on one server. One iteration is one round of a batch each. Reported is
// each wrapper's time ÷ the bare driver's, the median of the rounds, and ratio95, the upper bound
// of its 95 % confidence interval. For figures that are worth something: -benchtime 40x.
func BenchmarkSelect1Ratio(b *testing.B) {
	for _, server := range []struct {
		name      string
		connector func(*testing.B) driver.Connector
	}{
		{"MariaDB", func(b *testing.B) driver.Connector {
			b.Helper()
			cfg, err := gomysql.ParseDSN(testserver.SharedMariaDB(b).DSN())
			if err != nil {
				b.Fatal(err)
			}
			connector, err := gomysql.NewConnector(cfg)
			if err != nil {
				b.Fatal(err)
			}
			return connector
		}},
		{"PostgreSQL", func(b *testing.B) driver.Connector {
			b.Helper()
			cfg, err := pgx.ParseConfig(testserver.SharedPostgres(b).URL())
			if err != nil {
				b.Fatal(err)
			}
			return stdlib.GetConnector(*cfg)
		}},
	} {
		b.Run(server.name, func(b *testing.B) {
			connector := server.connector(b)
			b.Run("serial", func(b *testing.B) { inTurns(b, connector, 1) })
			b.Run("parallel15", func(b *testing.B) { inTurns(b, connector, 15) })
		})
	}
}

func inTurns(b *testing.B, connector driver.Connector, callers int) {
	b.Helper()
	all := contenders()
	dbs := make([]*sql.DB, len(all))
	for i, c := range all {
		dbs[i] = c.open(b, connector)
		if c.name != "sqlpool" { // it has its limits from its Config
			dbs[i].SetMaxOpenConns(16)
			dbs[i].SetMaxIdleConns(16)
		}
		batch(b, dbs[i], callers)
	}
	ratios := make([][]float64, len(all))
	times := make([]float64, len(all))
	for round := 0; b.Loop(); round++ {
		for i := range all {
			i = (i + round) % len(all)
			times[i] = batch(b, dbs[i], callers).Seconds()
		}
		for i := range all {
			ratios[i] = append(ratios[i], times[i]/times[0])
		}
	}
	for i, c := range all[1:] {
		median, upper := medianAndBound(ratios[i+1])
		b.ReportMetric(median, c.name+"-ratio")
		b.ReportMetric(upper, c.name+"-ratio95")
	}
	b.ReportMetric(0, "ns/op") // of a round of batches: it says nothing
}

// batch returns how long 300 queries take.
func batch(b *testing.B, db *sql.DB, callers int) time.Duration {
	b.Helper()
	const queries = 300
	ctx := context.WithoutCancel(b.Context())
	var wg sync.WaitGroup
	begun := time.Now()
	for range callers {
		wg.Go(func() {
			for range queries / callers {
				var n int
				if err := db.QueryRowContext(ctx, "select 1").Scan(&n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begun)
}

// medianAndBound returns the median, and the binomial upper bound of its 95 % confidence interval.
func medianAndBound(x []float64) (median, upper float64) {
	slices.Sort(x)
	n := float64(len(x))
	bound := int(math.Ceil(n/2 + 1.96*math.Sqrt(n)/2))
	return x[len(x)/2], x[min(bound, len(x)-1)]
}

// BenchmarkSelect1Allocs is what one SELECT 1 allocates on each.
func BenchmarkSelect1Allocs(b *testing.B) {
	cfg, err := gomysql.ParseDSN(testserver.SharedMariaDB(b).DSN())
	if err != nil {
		b.Fatal(err)
	}
	connector, err := gomysql.NewConnector(cfg)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range contenders() {
		b.Run(c.name, func(b *testing.B) {
			db := c.open(b, connector)
			batch(b, db, 1)
			ctx := context.WithoutCancel(b.Context())
			b.ReportAllocs()
			for b.Loop() {
				var n int
				if err := db.QueryRowContext(ctx, "select 1").Scan(&n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
