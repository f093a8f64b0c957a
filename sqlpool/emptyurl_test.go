package sqlpool_test

import (
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

func TestAnEmptyURLIsRefusedByAllThatDial(t *testing.T) {
	_, pg := sqlpool.NewPostgres(sqlpool.PostgresConfig{})
	_, my := sqlpool.NewMySQL(sqlpool.MySQLConfig{})
	for name, err := range map[string]error{"NewPostgres": pg, "NewMySQL": my} {
		if err == nil || !strings.Contains(err.Error(), "URL is empty") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
