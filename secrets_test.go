package poolkeeper_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/redispool/redispooltest"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

const secret = "s3cret"

// harmless are the exported structs that hold nothing of a configuration, nor of a server's
// address.
var harmless = []string{
	"poolkeeper.Stats", "poolkeeper.Histogram", "poolkeeper.Bucket", "poolkeeper.Holder",
	"httpclient.TimeoutError", "httpclient.HostError", "httpclient.StatusError",
	"poolkeeper.AcquireError", "poolkeeper.HeldError", "redispool.Limits",
	"poolkeeper.Isolation", "poolkeeper.Event", "poolkeeper.Expiry", "poolkeeper.FleetStats", "poolkeeper.MemberStats", "poolkeeper.ServerStats", "poolkeeper.StreamStats",
	"poolkeeper.ServerInfo", "poolkeeper.Latency", "redispool.Answer", "sqlpool.Answer",
	"sqlpool.Limits", "replica.Member",
	"sqlpooltest.Answer", // the user's own test data
	"sqlpooltest.Query",  // the same
}

// No exported type shows a secret, however it is printed, and no exported type has been forgotten
// here.
func TestNothingPrintsASecret(t *testing.T) { // INV-12
	values := slices.Concat(redisSecrets(t), sqlSecrets(t), httpSecrets(t))
	reg := lifecycle.New(lifecycle.Config{Logger: quiet()})
	for i, v := range values {
		if c, ok := v.(lifecycle.Component); ok {
			reg.Add(fmt.Sprintf("c%d", i), c)
		}
	}
	values = append(values, reg, reg.Status(), poolkeeper.TLSFiles{CA: "ca.pem"})
	tried := map[string]bool{}
	for _, v := range values {
		tried[strings.TrimPrefix(reflect.TypeOf(v).String(), "*")] = true
		forms := []any{v, []any{v}, map[string]any{"v": v}, struct{ V any }{v}}
		if pool := reflect.ValueOf(v); isPool(v) { // its methods are those of a pointer
			byValue := pool.Elem().Interface()
			forms = append(forms, byValue, []any{byValue}, struct{ v any }{v}, struct{ v any }{byValue})
		}
		for _, form := range forms {
			if text := everyWay(form); strings.Contains(text, secret) {
				t.Errorf("%T, of %T, shows the secret: … %s …", form, v, around(text))
			}
		}
	}
	pageShowsNoSecret(t, reg)
	for _, name := range exportedStructs(t) {
		if !tried[name] && !slices.Contains(harmless, name) {
			t.Errorf("%s is not printed by this test", name)
		}
	}
}

// pageShowsNoSecret looks at what statuspage makes of all the pools in reg.
func pageShowsNoSecret(t *testing.T, reg *lifecycle.Registry) {
	t.Helper()
	page := statuspage.New(reg, statuspage.Config{Allow: func(*http.Request) bool { return true }})
	for _, path := range []string{"/", "/status.json"} {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		text := w.Body.String()
		if strings.Contains(text, secret) {
			t.Errorf("statuspage shows the secret at %s: … %s …", path, around(text))
		}
		if !strings.Contains(text, "acquire_timeout") {
			t.Errorf("statuspage shows no settings at %s", path)
		}
	}
}

func isPool(v any) bool {
	switch v.(type) {
	case *redispool.Pool, *redispool.Adopted, *sqlpool.Postgres, *sqlpool.MySQL, *sqlpool.DB, *sqlpool.Adopted, *replica.Postgres, *replica.MySQL, *httpclient.Client, *httpclient.Set:
		return true
	default:
		return false
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// credentials are a file and a callback that give the secret.
func credentials(t *testing.T) (file string, ask func(context.Context) (user, password string, err error)) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("u:"+secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, func(context.Context) (string, string, error) { return "u", secret, nil }
}

func redisSecrets(t *testing.T) []any {
	t.Helper()
	file, ask := credentials(t)
	var values []any
	for _, cfg := range []redispool.Config{
		{URL: "redis://u:" + secret + "@127.0.0.1:1"},
		{URL: "redis+cluster://u:" + secret + "@127.0.0.1:1"},
		{URL: "redis+sentinel://u:" + secret + "@127.0.0.1:1/0?master_name=m&username=u&password=" + secret},
		{Options: &redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}, Password: secret, SentinelPassword: secret}},
		{URL: "redis://127.0.0.1:1", Credentials: ask},
		{URL: "redis://127.0.0.1:1", CredentialsFile: file},
	} {
		cfg.Logger = quiet()
		p, err := redispool.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Abort() })
		other := cfg
		other.URL, other.Options = "redis://u:other-"+secret+"@127.0.0.1:2", nil
		changes, _ := p.Plan(other)
		values = append(values, cfg, &cfg, p, p.Settings(), changes, p.Stats())
		if one, ok := p.Client().(*redis.Client); ok { // a ClusterClient has no String, and its options are the user's own
			values = append(values, one)
		}
		for _, c := range changes {
			values = append(values, c)
		}
	}
	_, err := redispool.New(redispool.Config{URL: "redis://u:" + secret + "@h:port"})
	_, err2 := redispool.New(redispool.Config{URL: "u:" + secret + "@h"})
	adopt := redispool.AdoptConfig{Logger: quiet()}
	adopted, err3 := redispool.Adopt(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Password: secret}), adopt)
	if err3 != nil {
		t.Fatal(err3)
	}
	t.Cleanup(func() { _ = adopted.Abort() })
	values = append(values, adopt, &adopt, adopted, adopted.Settings())
	kit := redispooltest.Start(t)
	kit.Mini.RequireAuth(secret)
	return append(values, err, err2, kit, *kit, &poolkeeper.DownError{Err: err})
}

func httpSecrets(t *testing.T) []any {
	t.Helper()
	cfg := httpclient.Config{
		BaseURL: "https://127.0.0.1:1", TLS: &tls.Config{ServerName: secret, MinVersion: tls.VersionTLS12}, Logger: quiet(),
		Authorize: func(r *http.Request) error { r.Header.Set("Authorization", secret); return nil },
	}
	c, err := httpclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Abort() })
	set, err := httpclient.NewSet(map[string]httpclient.Config{"billing": cfg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Abort() })
	_, malformed := httpclient.New(httpclient.Config{BaseURL: "https://u:" + secret + "@h/?token=" + secret})
	return []any{cfg, &cfg, c, set, malformed}
}

func sqlSecrets(t *testing.T) []any {
	t.Helper()
	const pg, my = "postgres://u:" + secret + "@127.0.0.1:1/d", "u:" + secret + "@tcp(127.0.0.1:1)/d"
	file, ask := credentials(t)
	var values []any
	keep := func(cfg any, p lifecycle.Aborter, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Abort() })
		values = append(values, cfg, &cfg, p)
	}
	for _, cfg := range []sqlpool.PostgresConfig{
		{URL: pg},
		{URL: "host=127.0.0.1 port=1 user=u password='" + secret + " x' dbname=d"},
		{URL: "postgres://127.0.0.1:1/d", Credentials: ask},
		{URL: "postgres://127.0.0.1:1/d", CredentialsFile: file},
	} {
		cfg.Logger = quiet()
		p, err := sqlpool.NewPostgres(cfg)
		keep(cfg, p, err)
		changes, _ := p.Plan(sqlpool.PostgresConfig{URL: pg + "x"})
		values = append(values, p.Pool(), p.DB(), p.Settings(), p.Stats(), changes)
	}
	for _, cfg := range []sqlpool.MySQLConfig{
		{URL: my},
		{URL: "mysql://u:" + secret + "@127.0.0.1:1/d"},
		{URL: "tcp(127.0.0.1:1)/d", Credentials: ask},
		{URL: "tcp(127.0.0.1:1)/d", CredentialsFile: file},
	} {
		cfg.Logger = quiet()
		p, err := sqlpool.NewMySQL(cfg)
		keep(cfg, p, err)
		values = append(values, p.DB(), p.DB().Driver(), p.Settings())
	}
	native, err := mysql.ParseDSN(my)
	if err != nil {
		t.Fatal(err)
	}
	connector, err := mysql.NewConnector(native)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlpool.NewDB(connector, sqlpool.DBConfig{Logger: quiet()})
	keep(sqlpool.DBConfig{}, db, err)
	adopted, err := sqlpool.Adopt(sql.OpenDB(connector), sqlpool.AdoptConfig{Logger: quiet()})
	keep(sqlpool.AdoptConfig{}, adopted, err)

	_, malformed := sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: pg + "?sslmode=nonsense"})
	_, unknown := sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: "u:" + secret + "@nonsense"})
	return append(append(values, replicaSecrets(t, pg, my)...), malformed, unknown)
}

func replicaSecrets(t *testing.T, pg, my string) []any {
	t.Helper()
	one, other := sqlpool.PostgresConfig{URL: pg, Logger: quiet()}, sqlpool.MySQLConfig{URL: my, Logger: quiet()}
	ofPostgres := replica.PostgresConfig{Primary: one, Replicas: []sqlpool.PostgresConfig{one}, Logger: quiet()}
	ofMySQL := replica.MySQLConfig{Primary: other, Replicas: []sqlpool.MySQLConfig{other}, Logger: quiet()}
	postgres, err := replica.NewPostgres(ofPostgres)
	if err != nil {
		t.Fatal(err)
	}
	mysql, err := replica.NewMySQL(ofMySQL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = postgres.Abort(), mysql.Abort() })
	srv := sqlpooltest.ServePostgres(t)
	srv.Answer("select '"+secret+"'", sqlpooltest.Answer{})
	pool, kit := sqlpooltest.NewPostgres(t)
	_, _ = pool.Pool().Exec(t.Context(), "select $1", secret)
	cfg := ofPostgres
	return []any{cfg, &cfg, ofMySQL, postgres, mysql, postgres.Settings(), mysql.Settings(), postgres.Members(), srv, kit, pool}
}

// everyWay prints v in every way there is.
func everyWay(v any) string {
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%d", "%s", "%q"} {
		fmt.Fprintf(&b, verb+"\n", v)
	}
	b.WriteString(strings.ReplaceAll(fmt.Sprintf("%x", v), fmt.Sprintf("%x", secret), secret))
	slog.New(slog.NewTextHandler(&b, nil)).Info("text", "value", v)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("json", "value", v)
	_ = json.NewEncoder(&b).Encode(v) // functions cannot be encoded
	return b.String()
}

// around is the first piece of text that has the secret.
func around(text string) string {
	at := strings.Index(text, secret)
	return text[max(at-100, 0):min(at+100, len(text))]
}

// exportedStructs are those of the pools, of the kits for tests of them, and of the root package.
func exportedStructs(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, dir := range []string{".", "httpclient", "redispool", "redispool/redispooltest", "sqlpool", "sqlpool/replica", "sqlpool/sqlpooltest"} {
		files, err := fs.Glob(os.DirFS(dir), "*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.IsExported() {
					if _, ok := spec.Type.(*ast.StructType); ok {
						names = append(names, file.Name.Name+"."+spec.Name.Name)
					}
				}
				return true
			})
		}
	}
	if len(names) < 15 {
		t.Errorf("only %v found", names)
	}
	return names
}
