package sqlpool_test

import (
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/sqlpool"
)

// A secret where a password belongs is in no fault of a URL or DSN, whatever the rest of the password
// and of the text is.
func FuzzURLOfMySQL(f *testing.F) {
	f.Add("", "", "db?parseTime=perhaps")
	f.Add("a/", "?x=1", "db")
	f.Add("@tcp(", ")/", "?tls=nonsense")
	f.Add("%zz", ":5", "?collation=x&y=%zz")
	f.Add("p(", "@unix(/x", "")
	f.Fuzz(func(t *testing.T, before, after, tail string) {
		const secret = "hunter2secret"
		password := before + secret + after
		for _, url := range []string{
			"mysql://user:" + password + "@h:3306/" + tail, "mariadb://u:" + password + "@h/" + tail,
			"user:" + password + "@tcp(h:3306)/" + tail, "u:" + password + "@/" + tail, "u:" + password + "@unix(/run/m.sock)/" + tail,
			"u:" + password,
		} {
			// Dials are not tried: Validate does no I/O.
			if err := (sqlpool.MySQLConfig{URL: url}).Validate(); err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q: the error shows the secret: %v", url, err)
			}
		}
	})
}

// The same for PostgreSQL.
func FuzzURLOfPostgres(f *testing.F) {
	f.Add("", "", "sslmode=nonsense")
	f.Add("a/", "?x=1", "port=x")
	f.Add("%zz", ":5", "pool_max_conns=many")
	f.Add("it\\'s ", "' port=y ", "pool_max_conn_lifetime=x")
	f.Add("[", "]", "host=/run target_session_attrs=x")
	f.Fuzz(func(t *testing.T, before, after, tail string) {
		const secret = "hunter2secret"
		password := before + secret + after
		quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password)
		for _, url := range []string{
			"postgres://user:" + password + "@h:5432/db?" + tail, "postgresql://u:" + password + "@h,i/db?" + tail,
			"host=h user=u password='" + quoted + "' " + tail, "host=h password=" + password + " " + tail,
			"postgres://h/db?password=" + password + "&" + tail,
		} {
			if err := (sqlpool.PostgresConfig{URL: url}).Validate(); err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q: the error shows the secret: %v", url, err)
			}
		}
	})
}
