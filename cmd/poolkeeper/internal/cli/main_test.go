package cli_test

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/cli"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

var update = flag.Bool("update", false, "write the golden files and the man pages anew")

func TestMain(m *testing.M) {
	redis.SetLogger(redispool.GoRedisLogger(slog.New(slog.DiscardHandler)))
	goleak.VerifyTestMain(testserver.Main(m))
}

// password is in every URL that has one, and must be in no output.
const password = "sesame"

// ran is what a command line has come to.
type ran struct {
	out, err string
	code     int
}

func run(t *testing.T, env map[string]string, args ...string) ran {
	t.Helper()
	return runWithin(t.Context(), t, env, args...)
}

func runWithin(ctx context.Context, t *testing.T, env map[string]string, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	code := cli.Run(ctx, args, cli.Streams{Out: &out, Err: &errs, Getenv: func(name string) string { return env[name] }})
	r := ran{out.String(), errs.String(), code}
	if all := r.out + r.err; strings.Contains(all, password) {
		t.Errorf("%v shows the password:\n%s", args, all)
	}
	return r
}

// volatile are parts of an output that differ from run to run, and from server to server.
var volatile = []struct{ pattern, instead string }{
	{`(127\.0\.0\.1|localhost):\d+`, "$1:PORT"},
	{`\d+(\.\d+)? ms\b`, "N ms"},
	{`(_ms"|"on_server"|"pings"|"clock_seconds"): -?[\d.]+`, "$1: 0"},
	{`error reading server preface: [^"\\]*`, "error reading server preface: …"}, // how a connection ends is a race
	{`clock [+-][\d.e-]+ s`, "clock N s"},
	{`\d+ on the server now`, "N on the server now"},
	{`p99 N ms \(\d+ pings\)`, "p99 N ms (50 pings)"},
	{`(Redis|PostgreSQL|MariaDB) \d[^,\n]*`, "$1 VERSION"},
	{`"version": "[^"]*"`, `"version": "VERSION"`},
	{`until \d{4}-\S+ \S+ UTC`, "until DATE"},
	{`"not_after": "[^"]*"`, `"not_after": "DATE"`},
	{`expired on \d{4}-\d\d-\d\d`, "expired on DATE"},
	{`current time \S+ is after \S+`, "current time NOW is after DATE"},
	// Whether the client reads the server's last word or is reset by it is a race.
	{`(write|read) tcp \S+: (write|read): (connection reset by peer|broken pipe); `, "EOF; "},
	{`EOF; remote error: `, "remote error: "},
	{`invalid reply: \\?"[^,]*;`, "invalid reply: …;"}, // a greeting, with the server's version
	{`lookup (\S+?)(:| on ).*`, "lookup $1: no such host"},
	{`(, |\n *)"?(reserved_connections|transaction_timeout)"?:? "?0"?,?`, ""}, // of PostgreSQL 16 and 17
}

func normal(text string) string {
	for _, v := range volatile {
		text = regexp.MustCompile(v.pattern).ReplaceAllString(text, v.instead)
	}
	return text
}

// golden compares an output, without what is volatile, with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	goldenAt(t, filepath.Join("testdata", name), got)
}

func goldenAt(t *testing.T, file, got string) {
	t.Helper()
	got = normal(got)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what came out (go test -update, if that is meant):\n%s\nwant:\n%s", file, got, want)
	}
}

// with returns env and one variable more.
func with(env map[string]string, name, value string) map[string]string {
	out := maps.Clone(env)
	if out == nil {
		out = map[string]string{}
	}
	out[name] = value
	return out
}
