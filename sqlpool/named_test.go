package sqlpool_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestConstructorsNameThePoolInEveryFault(t *testing.T) {
	for name, build := range map[string]func(sqlpool.DBConfig) error{
		"NewPostgres": func(cfg sqlpool.DBConfig) error {
			return second(sqlpool.NewPostgres(like[sqlpool.PostgresConfig](cfg)))
		},
		"NewMySQL":   func(cfg sqlpool.DBConfig) error { return second(sqlpool.NewMySQL(like[sqlpool.MySQLConfig](cfg))) },
		"NewDB":      func(cfg sqlpool.DBConfig) error { return second(sqlpool.NewDB(newFakeServer(), cfg)) },
		"NewDB, nil": func(cfg sqlpool.DBConfig) error { return second(sqlpool.NewDB(nil, cfg)) },
	} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprint(build(sqlpool.DBConfig{Name: "orders", MaxOpen: -1, MaxDials: -1}))
			lines := strings.Split(text, "\n")
			for _, line := range lines {
				if !strings.HasPrefix(line, `sqlpool: new "orders": `) || strings.HasPrefix(line, `sqlpool: new "orders": sqlpool:`) {
					t.Errorf("%q does not say which pool", line)
				}
			}
			if len(lines) < 2 || !strings.Contains(text, "MaxOpen is -1") || !strings.Contains(text, "MaxDials is -1") {
				t.Errorf("%q", text)
			}
			plain := fmt.Sprint(build(sqlpool.DBConfig{MaxOpen: -1, MaxDials: -1}))
			if strings.Contains(plain, "new ") || strings.Count(plain, "\n") != strings.Count(text, "\n") {
				t.Errorf("without a name: %q", plain)
			}
		})
	}
}

func TestAdoptNamesTheHandleInEveryFault(t *testing.T) {
	db := second(sqlpool.Adopt(nil, sqlpool.AdoptConfig{Name: "orders", Start: 99}))
	pool := second(sqlpool.AdoptPgxPool(nil, sqlpool.AdoptConfig{Name: "orders", Start: 99}))
	for text, want := range map[string]string{fmt.Sprint(db): "Adopt: db is nil", fmt.Sprint(pool): "AdoptPgxPool: pool is nil"} {
		for line := range strings.SplitSeq(text, "\n") {
			if !strings.HasPrefix(line, `sqlpool: new "orders": `) {
				t.Errorf("%q does not say which handle", line)
			}
		}
		if !strings.Contains(text, "Start is StartPolicy(99)") || !strings.Contains(text, want) {
			t.Errorf("%q", text)
		}
	}
}

func TestNamedFaultIsStillTheOneThatWasMet(t *testing.T) {
	mine := errors.New("not today")
	_, err := sqlpool.NewPostgres(sqlpool.PostgresConfig{
		Name: "orders", URL: "postgres://127.0.0.1/orders",
		Configure: func(*pgxpool.Config) error { return mine },
	})
	if !errors.Is(err, mine) || !strings.HasPrefix(fmt.Sprint(err), `sqlpool: new "orders": `) {
		t.Errorf("%v", err)
	}
}
