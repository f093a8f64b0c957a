package poolkeeper_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/lifecycletest"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/redispool/redispooltest"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// Every block of Go in docs/testing.md is, word for word, part of this file.
func TestTestingDocShowsCodeThatRuns(t *testing.T) {
	page, err := os.ReadFile("docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("wiring_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) == 0 {
		t.Fatal("no block of Go")
	}
	for _, b := range blocks {
		if !strings.Contains(string(source), b[1]) {
			t.Errorf("not in the file:\n%s", b[1])
		}
	}
}

type shop struct {
	cache  redis.UniversalClient
	orders *pgxpool.Pool
}

// newShop is the wiring of the service, in production and in its tests.
func newShop(reg *lifecycle.Registry, cache *redispool.Pool, orders *sqlpool.Postgres) *shop {
	reg.Add("cache", cache)
	reg.Add("orders", orders)
	return &shop{cache.Client(), orders.Pool()}
}

func TestShopCountsOrdersWithoutItsCache(t *testing.T) {
	cache := redispooltest.NewUnstarted(t)
	orders, database := sqlpooltest.NewUnstartedPostgres(t)
	database.Answer("SELECT count(*) FROM orders", sqlpooltest.Answer{Columns: []string{"count"}, Rows: [][]any{{int64(3)}}})

	reg := lifecycletest.New(t, lifecycle.Config{})
	shop := newShop(reg, cache.Pool, orders)
	lifecycletest.Start(t, reg)

	cache.Refuse() // the server is gone
	if n, err := shop.count(t.Context()); err != nil || n != 3 {
		t.Errorf("%d orders, %v", n, err)
	}
	cache.Heal()
}

func (s *shop) count(ctx context.Context) (n int64, err error) {
	if n, err = s.cache.Get(ctx, "orders:count").Int64(); err != nil { // not cached, or no cache
		err = s.orders.QueryRow(ctx, "SELECT count(*) FROM orders").Scan(&n)
	}
	return n, err
}

// A pool of a kit ends with the registry it was added to, and once more with its test.
func TestKitsPoolsRunInARegistry(t *testing.T) {
	cache := redispooltest.NewUnstarted(t)
	orders, _ := sqlpooltest.NewUnstartedPostgres(t)
	reports, _ := sqlpooltest.NewUnstarted(t, func(c *sqlpool.DBConfig) { c.MinIdle = 2 })
	reg := lifecycle.New(lifecycle.Config{})
	reg.Add("cache", cache)
	reg.Add("orders", orders)
	reg.Add("reports", reports)
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if report := reg.Shutdown(ctx); report != nil {
		t.Error(report)
	}
	if text := fmt.Sprint(cache.Check(ctx), orders.Check(ctx), reports.Check(ctx)); strings.Count(text, "closed") != 3 {
		t.Errorf("the pools are not stopped: %s", text)
	}
}
