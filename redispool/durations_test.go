package redispool_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// Each duration of Config, and of Options, is refused under its name, or the pool works with it.
func TestEveryDurationIsRefusedOrWorks(t *testing.T) {
	addr := mini(t).Addr()
	quiet := slog.New(slog.DiscardHandler)
	for name, makeConfig := range map[string]func() redispool.Config{
		"URL": func() redispool.Config { return redispool.Config{URL: "redis://" + addr, Logger: quiet} },
		"Options": func() redispool.Config {
			return redispool.Config{Logger: quiet, Options: &redis.UniversalOptions{
				Addrs: []string{addr}, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeAuto, RelaxedTimeout: time.Second},
			}}
		},
	} {
		cfg := makeConfig()
		for field := range testkit.Durations(&cfg) {
			for _, d := range testkit.Extremes {
				cfg := makeConfig()
				*testkit.Durations(&cfg)[field] = d
				tryDuration(t, name+": "+field, field, d, cfg)
			}
		}
	}
}

// standIns are the fields of Options that stand in for one of Config with another name, under which
// they are refused.
func standIns() map[string]string {
	return map[string]string{"ConnMaxLifetime": "MaxLifetime", "ConnMaxIdleTime": "MaxIdleTime", "PoolTimeout": "AcquireTimeout"}
}

func tryDuration(t *testing.T, at, field string, d time.Duration, cfg redispool.Config) {
	t.Helper()
	p, err := redispool.New(cfg)
	if err != nil {
		if ours := standIns()[field]; ours != "" {
			field = ours
		}
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s %s: the error does not name it: %v", at, d, err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := p.Start(ctx)
	if start == nil {
		start = p.Client().Set(ctx, "a", 1, 0).Err()
	}
	if start != nil && d != 1 { // a nanosecond is enough for nothing, but it ends
		t.Errorf("%s %s: accepted, and the pool does not work: %v", at, d, start)
	}
	if err := p.Stop(ctx); err != nil {
		t.Errorf("%s %s: Stop: %v", at, d, err)
	}
}

func TestTooLongAndTooShortDurationsAreRefused(t *testing.T) {
	var cfg redispool.Config
	for field := range testkit.Durations(&cfg) {
		for d, want := range map[time.Duration]string{100*365*24*time.Hour + 1: "100 years", 30: "30*time.Second"} {
			cfg := redispool.Config{URL: "redis://127.0.0.1:1"}
			*testkit.Durations(&cfg)[field] = d
			err := cfg.Validate()
			refused := err != nil && strings.Contains(err.Error(), field+" is "+d.String()) && strings.Contains(err.Error(), want)
			switch field {
			case "MaxIdleTime", "MaxLifetime", "KeepAlive", "LeakThreshold", "FileInterval", "After", "Retry", "MaxRetry":
			default:
				if d == 30 { // tests shorten it
					refused = err == nil
				}
			}
			if !refused {
				t.Errorf("%s %s: got %v", field, d, err)
			}
		}
	}
}
