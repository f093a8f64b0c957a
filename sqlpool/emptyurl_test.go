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

// A URL that is half a DSN of the driver is named as such, without its password.
func TestMySQLURLWithTheDriversBrackets(t *testing.T) {
	for _, url := range []string{"mysql://u:s3cret@unix(/run/mysqld.sock)/db", "mysql://u:s3cret@tcp(db:3306)/x"} {
		_, err := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: url})
		if err == nil || !strings.Contains(err.Error(), "without mysql://") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
