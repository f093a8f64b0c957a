package sqlpool_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// What a pool adds to the path of every statement is no work for the garbage collector.
func TestAcquiringAllocatesNoMoreThanPgxpool(t *testing.T) {
	srv := sqlpooltest.ServePostgres(t)
	bare, err := pgxpool.New(t.Context(), srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	managed, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: srv.URL(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, managed) })
	allocs := func(p *pgxpool.Pool) float64 {
		return testing.AllocsPerRun(1000, func() {
			c, err := p.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c.Release()
		})
	}
	if got, want := allocs(managed.Pool()), allocs(bare); got > want {
		t.Errorf("%v allocations, pgxpool has %v", got, want)
	}
}
