package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// pair is the same operation on a connection that is reused, and on one of its own.
type pair struct {
	what       string
	pooled, on func(context.Context) error
	end        func(context.Context) error
}

// showReuse compares a pool with a connection for each request. All servers are on this machine, where
// a round trip costs next to nothing: what shows is the work for a connection.
func showReuse(ctx context.Context, out io.Writer, s *servers) error {
	_, _ = fmt.Fprintf(out, "\nA connection for each request takes, against one that is reused:\n\n")
	for _, open := range []func(context.Context, *servers) (*pair, error){openHTTP, openHTTPS, openRedis, openPostgres} {
		p, err := open(ctx, s)
		if err != nil {
			return err
		}
		if p == nil {
			continue // there is no server
		}
		ratio, err := p.compare(ctx)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "  %-10s %5.1f times as long\n", p.what, ratio)
		if err := p.end(ctx); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprint(out, `
  HTTP without TLS has no handshake but TCP's: one more round trip, so that over a network it takes
  twice as long. TLS, Redis and SQL have to introduce themselves.
`)
	return nil
}

// compare runs both sides in turns, and returns the median of their ratios.
func (p *pair) compare(ctx context.Context) (float64, error) {
	const rounds, batch = 15, 20
	ratios := make([]float64, 0, rounds)
	for range rounds {
		var took [2]time.Duration
		for i, op := range []func(context.Context) error{p.pooled, p.on} {
			begun := time.Now()
			for range batch {
				if err := op(ctx); err != nil {
					return 0, fmt.Errorf("%s: %w", p.what, err)
				}
			}
			took[i] = time.Since(begun)
		}
		ratios = append(ratios, float64(took[1])/float64(took[0]))
	}
	slices.Sort(ratios)
	return ratios[rounds/2], nil
}

func openHTTP(ctx context.Context, s *servers) (*pair, error) {
	return openClient(ctx, "HTTP", httpclient.Config{BaseURL: s.plain})
}

func openHTTPS(ctx context.Context, s *servers) (*pair, error) {
	return openClient(ctx, "HTTPS", httpclient.Config{BaseURL: s.secure, TLS: s.trust})
}

func openClient(ctx context.Context, what string, cfg httpclient.Config) (*pair, error) {
	cfg.Logger = slog.New(slog.DiscardHandler)
	c, err := httpclient.New(cfg)
	if err != nil {
		return nil, err
	}
	once := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: cfg.TLS}}
	return &pair{
		what:   what,
		pooled: func(ctx context.Context) error { return fetch(ctx, c.HTTP(), cfg.BaseURL) },
		on:     func(ctx context.Context) error { return fetch(ctx, once, cfg.BaseURL) },
		end:    c.Stop,
	}, c.Start(ctx)
}

func openRedis(ctx context.Context, _ *servers) (*pair, error) {
	url := os.Getenv("REDIS_URL")
	if url == "" {
		return nil, nil //nolint:nilnil // there is no server
	}
	p, err := redispool.New(redispool.Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	opts, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return &pair{
		what:   "Redis",
		pooled: func(ctx context.Context) error { return p.Client().Ping(ctx).Err() },
		on: func(ctx context.Context) error {
			c := redis.NewClient(opts)
			defer func() { _ = c.Close() }()
			return c.Ping(ctx).Err()
		},
		end: p.Stop,
	}, p.Start(ctx)
}

func openPostgres(ctx context.Context, _ *servers) (*pair, error) {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		return nil, nil //nolint:nilnil // there is no server
	}
	p, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: url, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return &pair{
		what:   "PostgreSQL",
		pooled: func(ctx context.Context) error { _, err := p.Pool().Exec(ctx, "select 1"); return err },
		on: func(ctx context.Context) error {
			c, err := pgx.Connect(ctx, url)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close(ctx) }()
			_, err = c.Exec(ctx, "select 1")
			return err
		},
		end: p.Stop,
	}, p.Start(ctx)
}
