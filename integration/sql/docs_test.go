package integration_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"gorm.io/gorm"

	"github.com/poolkeeper/poolkeeper/integration/sql/sqlcgen/postgres"
)

// Every block of Go in docs/integrations.md is, word for word, part of a file of this module, of
// integration/asynq or of integration/tracing, and so compiles; the tests of these modules run it.
func TestDocsShowCodeThatCompiles(t *testing.T) {
	page, err := os.ReadFile("../../docs/integrations.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	for _, pattern := range []string{"*_test.go", "../asynq/*_test.go", "../tracing/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			source, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(source)
		}
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 6 {
		t.Fatalf("found %d blocks of Go", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(sources.String(), b[1]) {
			t.Errorf("not in any file:\n%s", b[1])
		}
	}
}

// The services of the page start, work, and end cleanly when they are told to; nothing is left on
// the server.
func TestServicesOfTheDocsRun(t *testing.T) {
	type service func(ctx context.Context, t *testing.T, url string, stop func()) error
	for name, s := range map[string]struct {
		mysql bool
		run   service
	}{
		"GORM": {true, func(ctx context.Context, t *testing.T, url string, stop func()) error {
			t.Helper()
			return gormService(ctx, url, func(ctx context.Context, db *gorm.DB) error {
				defer stop()
				var n int
				if err := db.WithContext(ctx).Raw("SELECT 42").Scan(&n).Error; err != nil || n != 42 {
					t.Errorf("got %d, %v", n, err)
				}
				return nil
			})
		}},
		"sqlx": {true, func(ctx context.Context, t *testing.T, url string, stop func()) error {
			t.Helper()
			return sqlxService(ctx, url, func(ctx context.Context, db *sqlx.DB) error {
				defer stop()
				var n int
				if err := db.GetContext(ctx, &n, "SELECT 42"); err != nil || n != 42 {
					t.Errorf("got %d, %v", n, err)
				}
				return nil
			})
		}},
		"sqlc": {false, func(ctx context.Context, t *testing.T, url string, stop func()) error {
			t.Helper()
			return sqlcService(ctx, url, func(ctx context.Context, q *postgres.Queries) error {
				defer stop()
				if all, err := q.ListAccounts(ctx); err != nil || len(all) != 0 {
					t.Errorf("got %v, %v", all, err)
				}
				return nil
			})
		}},
		"River": {false, func(ctx context.Context, t *testing.T, url string, stop func()) error {
			t.Helper()
			l := newLedger()
			jobs := river.NewWorkers()
			river.AddWorker(jobs, &loadWorker{l: l})
			return riverJobs(ctx, url, jobs, func(ctx context.Context, client *river.Client[pgx.Tx]) error {
				defer stop()
				if _, err := client.Insert(ctx, loadArgs{7}, nil); err != nil {
					t.Error(err)
				}
				eventually(t, "the job is done", func() bool { return l.read(func(l *ledger) int { return l.done[7] }) == 1 })
				return nil
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			look, srv := admin(t, s.mysql)
			if name == "sqlc" {
				if _, err := look.ExecContext(within(t, patience), ddl); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if _, err := look.ExecContext(within(t, patience), "DROP TABLE accounts"); err != nil {
						t.Error(err)
					}
				})
			}
			ctx, cancel := context.WithCancel(within(t, patience))
			defer cancel()
			if err := s.run(ctx, t, srv.URL(), cancel); err != nil {
				t.Error(err)
			}
			nothingLeft(t, look, s.mysql)
		})
	}
}
