package redact_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/internal/redact"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
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
		"DSN u:hunter2@/d":                                                      "DSN ***@/d",
		"DSN u:hunter2@cloudsql(p:r:i)/d":                                       "DSN ***@cloudsql(p:r:i)/d",
		"DSN u:hunter2@tcp/d":                                                   "DSN ***@tcp/d",
		`cannot open "u:a hunter2@tcp(db:3306)/d?x=y": refused`:                 `cannot open "***@tcp(db:3306)/d?x=y": refused`,
		"DSN u:a@/b@hunter2@tcp(db:3306)/d":                                     "DSN ***@tcp(db:3306)/d",
		"DSN :hunter2@/":                                                        "DSN ***@/",
		"dsn=u:p/hunter2@unix(/run/m.sock)/":                                    "dsn=***@unix(/run/m.sock)/",
		"postgres://u:a hunter2@db/x failed":                                    "postgres://***@db/x failed",
		"redis://:12 hunter2@cache:6379/0":                                      "redis://***@cache:6379/0",
		`parse "redis://:a hunter2@h/0": net/url: invalid userinfo`:             `parse "redis://***@h/0": net/url: invalid userinfo`,
		"redis://cache:6379 is away; tell ops@x.example":                        "redis://cache:6379 is away; tell ops@x.example",
		"GET https://***@api/x: 500":                                            "GET https://***@api/x: 500",
		"redis://h/0?password=hunter2&db=1":                                     "redis://h/0?password=***&db=1",
		"host=db password='a hunter2' dbname=x":                                 "host=db password=*** dbname=x",
		`host=db password='it\'s hunter2' dbname=x`:                             "host=db password=*** dbname=x",
		`host=db password="a hunter2" dbname=x`:                                 "host=db password=*** dbname=x",
		`host=db password=a\ hunter2 dbname=x`:                                  "",
		"host=db password=a hunter2 dbname=x":                                   "host=db password=*** dbname=x",
		"host=db password=a,hunter2 dbname=x":                                   "host=db password=*** dbname=x",
		"host=db password=a&hunter2 dbname=x":                                   "host=db password=*** dbname=x",
		"host=db password=it's;hunter2":                                         "host=db password=***",
		"host=db password='a hunter2":                                           "host=db password=***",
		`"host=db password=\"a hunter2\" x=y"`:                                  "",
		`{\"password\":\"a hunter2\",\"x\":1}`:                                  "",
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
		got := redact.Text(in)
		if strings.Contains(got, secret) {
			t.Errorf("%q shows the secret: %q", in, got)
		}
		if want != "" && got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// A URL that is cut in two shows no part of its password.
func TestALongTextIsNotCutWithinASecret(t *testing.T) {
	const secret = "hunter2hunter2hunter2"
	for pad := 4040; pad < 4100; pad++ {
		in := strings.Repeat(" ", pad) + "dial postgres://admin:" + secret + "@db:5432/orders"
		if out := redact.Text(in); strings.Contains(out, "hunter2") {
			t.Fatalf("after %d blanks: %s", pad, out)
		}
	}
	if out := redact.Text(strings.Repeat("x", 10000)); out != "" {
		t.Errorf("a word of 10,000 letters: %.80s", out)
	}
}

func TestErrorTextsAreOneShortLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		got := redact.Text(rapid.String().Draw(t, "text") + strings.Repeat("é", rapid.IntRange(0, 3000).Draw(t, "n")))
		if len(got) > 1100 || strings.ContainsAny(got, "\n\r\t\x00\x1b") {
			t.Fatalf("%d bytes: %q", len(got), got)
		}
	})
}

// Nor in the DSNs of the drivers.
func TestNoDSNPasswordSurvives(t *testing.T) {
	rapid.Check(t, noDSNPasswordSurvives)
}

func FuzzNoDSNPasswordSurvives(f *testing.F) { fuzzing.Property(f, noDSNPasswordSurvives) }

func noDSNPasswordSurvives(t *rapid.T) {
	password := rapid.StringMatching(`[A-Za-z0-9!$&()*+,;=:%._~@/?#'" -]{8,30}[A-Za-z0-9]`).Draw(t, "password")
	password = "x" + password // white space after the colon ends a word
	quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password)
	for _, dsn := range []string{
		"u:" + password + "@tcp(h:3306)/d?x=y", "u:" + password + "@/d", "u:" + password + "@cloudsql(p:r:i)/d",
		"host=h password='" + quoted + "' dbname=d",
	} {
		for _, text := range []string{"connect " + dsn + ": refused", "open \"" + dsn + "\" failed", dsn} {
			got := redact.Text(text)
			for piece := range strings.FieldsSeq(password) {
				if len(piece) >= 5 && strings.Contains(got, piece) {
					t.Fatalf("%q: %q", text, got)
				}
			}
		}
	}
}

// A password of any shape, percent-encoded as a URL wants it, does not survive in a URL's place for
// it.
func TestNoURLPasswordSurvives(t *testing.T) {
	rapid.Check(t, noURLPasswordSurvives)
}

func FuzzNoURLPasswordSurvives(f *testing.F) { fuzzing.Property(f, noURLPasswordSurvives) }

func noURLPasswordSurvives(t *rapid.T) {
	scheme := rapid.SampledFrom([]string{"postgres", "postgresql", "redis", "rediss", "mysql", "https", "redis+sentinel"}).Draw(t, "scheme")
	password := rapid.StringMatching(`[A-Za-z0-9!$&'()*+,;=:%._~@-]{8,30}`).Draw(t, "password")
	got := redact.Text("connect " + scheme + "://user:" + password + "@host:1234/db?x=y: refused")
	if strings.Contains(got, password) {
		t.Fatalf("%q", got)
	}
}
