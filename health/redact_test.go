package health_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/health"
)

// INV-12.
func TestErrorTextsLoseTheirSecrets(t *testing.T) {
	const secret = "hunter2"
	for in, want := range map[string]string{
		"dial postgres://admin:hunter2@db:5432/orders: refused":                 "dial postgres://***@db:5432/orders: refused",
		"redis://:hunter2@cache:6379/0":                                         "redis://***@cache:6379/0",
		"rediss://token-hunter2@cache":                                          "rediss://***@cache",
		"postgres://a:hun@ter@hunter2@db/x":                                     "postgres://***@db/x",
		"bad DSN admin:hunter2@tcp(10.0.0.7:3306)/orders":                       "bad DSN ***@tcp(10.0.0.7:3306)/orders",
		"bad DSN admin:hunter2@unix(/run/mysqld.sock)/orders":                   "bad DSN ***@unix(/run/mysqld.sock)/orders",
		"host=db user=admin password=hunter2 dbname=orders":                     "host=db user=admin password=*** dbname=orders",
		"host=db password='it''s hunter2' dbname=x":                             "",
		"PGPASSWORD=hunter2 psql":                                               "PGPASSWORD=*** psql",
		`{"user":"admin","password":"hunter2","x":1}`:                           `{"user":"admin","password":***,"x":1}`,
		`password: hunter2`:                                                     "password: ***",
		"Authorization: Bearer eyJhunter2hunter2":                               "",
		"https://api/x?access_token=hunter2&y=1":                                "https://api/x?access_token=***&y=1",
		"api-key=hunter2":                                                       "api-key=***",
		"client_secret = hunter2":                                               "client_secret = ***",
		"two\nlines\tand\x00more":                                               "two lines and more",
		"user admin, database orders at db:5432 is down":                        "user admin, database orders at db:5432 is down",
		"postgres://admin:hunter2/a?b#c@d@db:5432/orders":                       "postgres://***@db:5432/orders",
		`parse "postgres://a:hunter2/b@db": invalid port ":hunter2" after host`: `parse "postgres://***@db": invalid port "***" after host`,
		`parse "redis://:%zhunter2@db": invalid URL escape "%zhunter2"`:         "",
		"mail to a@b.example failed":                                            "mail to a@b.example failed",
		"password authentication failed for user \"admin\"":                     "password authentication failed for user \"admin\"",
	} {
		got := health.Redact(in)
		if strings.Contains(got, secret) {
			t.Errorf("%q shows the secret: %q", in, got)
		}
		if want != "" && got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestErrorTextsAreOneShortLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		got := health.Redact(rapid.String().Draw(t, "text") + strings.Repeat("é", rapid.IntRange(0, 3000).Draw(t, "n")))
		if len(got) > 1100 || strings.ContainsAny(got, "\n\r\t\x00\x1b") {
			t.Fatalf("%d bytes: %q", len(got), got)
		}
	})
}

// A password of any shape, percent-encoded as a URL wants it, does not survive in a URL's place for it.
func TestNoURLPasswordSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scheme := rapid.SampledFrom([]string{"postgres", "postgresql", "redis", "rediss", "mysql", "https", "redis+sentinel"}).Draw(t, "scheme")
		password := rapid.StringMatching(`[A-Za-z0-9!$&'()*+,;=:%._~@-]{8,30}`).Draw(t, "password")
		got := health.Redact("connect " + scheme + "://user:" + password + "@host:1234/db?x=y: refused")
		if strings.Contains(got, password) {
			t.Fatalf("%q", got)
		}
	})
}
