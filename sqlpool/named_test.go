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
	for name, build := range map[string]func(sqlpool.Config) error{
		"NewPostgres": func(cfg sqlpool.Config) error { return second(sqlpool.NewPostgres(cfg)) },
		"NewMySQL":    func(cfg sqlpool.Config) error { return second(sqlpool.NewMySQL(cfg)) },
		"NewDB":       func(cfg sqlpool.Config) error { return second(sqlpool.NewDB(newFakeServer(), cfg)) },
		"NewDB, nil":  func(cfg sqlpool.Config) error { return second(sqlpool.NewDB(nil, cfg)) },
		"Adopt, nil":  func(cfg sqlpool.Config) error { return second(sqlpool.Adopt(nil, cfg)) },
	} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprint(build(sqlpool.Config{Name: "orders", MaxOpen: -1, MaxDials: -1}))
			lines := strings.Split(text, "\n")
			for _, line := range lines {
				if !strings.HasPrefix(line, `sqlpool: new "orders": `) || strings.HasPrefix(line, `sqlpool: new "orders": sqlpool:`) {
					t.Errorf("%q does not say which pool", line)
				}
			}
			if len(lines) < 2 || !strings.Contains(text, "MaxOpen is -1") || !strings.Contains(text, "MaxDials is -1") {
				t.Errorf("%q", text)
			}
			plain := fmt.Sprint(build(sqlpool.Config{MaxOpen: -1, MaxDials: -1}))
			if strings.Contains(plain, "new ") || strings.Count(plain, "\n") != strings.Count(text, "\n") {
				t.Errorf("without a name: %q", plain)
			}
		})
	}
}

func TestNamedFaultIsStillTheOneThatWasMet(t *testing.T) {
	mine := errors.New("not today")
	_, err := sqlpool.NewPostgres(sqlpool.Config{
		Name: "orders", URL: "postgres://127.0.0.1/orders",
		ConfigurePostgres: func(*pgxpool.Config) error { return mine },
	})
	if !errors.Is(err, mine) || !strings.HasPrefix(fmt.Sprint(err), `sqlpool: new "orders": `) {
		t.Errorf("%v", err)
	}
}
