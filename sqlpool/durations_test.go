package sqlpool_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// lifecycled is what the test below needs of a pool.
type lifecycled interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Each duration of a configuration is refused under its name, or the pool works with it.
func TestEveryDurationIsRefusedOrWorks(t *testing.T) {
	srv := sqlpooltest.ServePostgres(t)
	for field := range testkit.Durations(new(sqlpool.PostgresConfig)) {
		for _, d := range testkit.Extremes {
			cfg := sqlpool.PostgresConfig{URL: srv.URL(), Logger: quiet()}
			*testkit.Durations(&cfg)[field] = d
			pool, err := sqlpool.NewPostgres(cfg)
			tryDuration(t, "NewPostgres: "+field, d, pool, err)
		}
	}
	for field := range testkit.Durations(new(sqlpool.DBConfig)) {
		for _, d := range testkit.Extremes {
			cfg := sqlpool.DBConfig{Logger: quiet()}
			*testkit.Durations(&cfg)[field] = d
			pool, err := sqlpool.NewDB(newFakeServer(), cfg)
			tryDuration(t, "NewDB: "+field, d, pool, err)
		}
	}
}

func tryDuration(t *testing.T, at string, d time.Duration, p lifecycled, err error) {
	t.Helper()
	_, field, _ := strings.Cut(at, ": ")
	if err != nil {
		if !strings.Contains(err.Error(), field+" is ") {
			t.Errorf("%s %s: the error does not name it: %v", at, d, err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.Start(ctx); err != nil && d != 1 { // a nanosecond is enough for nothing, but it ends
		t.Errorf("%s %s: accepted, and Start fails: %v", at, d, err)
	}
	if err := p.Stop(ctx); err != nil {
		t.Errorf("%s %s: Stop: %v", at, d, err)
	}
}

func TestTooLongAndTooShortDurationsAreRefused(t *testing.T) {
	check := func(field string, d time.Duration, want string, err error) {
		t.Helper()
		refused := err != nil && strings.Contains(err.Error(), field+" is "+d.String()) && strings.Contains(err.Error(), want)
		switch field {
		case "MaxIdleTime", "MaxLifetime", "KeepAlive", "LeakThreshold", "FileInterval", "ReclaimAfter":
		default:
			if d == 30 { // tests shorten it
				refused = err == nil
			}
		}
		if !refused {
			t.Errorf("%s %s: got %v", field, d, err)
		}
	}
	for d, want := range map[time.Duration]string{100*365*24*time.Hour + 1: "100 years", 30: "30*time.Second"} {
		for field := range testkit.Durations(new(sqlpool.PostgresConfig)) {
			var cfg sqlpool.PostgresConfig
			*testkit.Durations(&cfg)[field] = d
			check(field, d, want, cfg.Validate())
		}
		for field := range testkit.Durations(new(sqlpool.MySQLConfig)) {
			var cfg sqlpool.MySQLConfig
			*testkit.Durations(&cfg)[field] = d
			check(field, d, want, cfg.Validate())
		}
		for field := range testkit.Durations(new(sqlpool.DBConfig)) {
			var cfg sqlpool.DBConfig
			*testkit.Durations(&cfg)[field] = d
			check(field, d, want, cfg.Validate())
		}
	}
	cfg := sqlpool.MySQLConfig{URL: "u@tcp(h)/d?timeout=1000000h"}
	if _, err := sqlpool.NewMySQL(cfg); err == nil || !strings.Contains(err.Error(), "DialTimeout is 1000000h0m0s") {
		t.Errorf("the time-out of a DSN: got %v", err)
	}
}
