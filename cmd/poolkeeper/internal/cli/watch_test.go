package cli_test

import (
	"context"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/cli"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

func TestWatchSendsItsTokenToAServerThatItTrusts(t *testing.T) {
	reg := lifecycle.New(lifecycle.Config{Logger: slog.New(slog.DiscardHandler)})
	page := statuspage.New(reg, statuspage.Config{Name: "shop", Allow: func(r *http.Request) bool {
		return r.Header.Get("Authorization") == "Bearer "+password
	}})
	reg.Add("api", lifecycle.Hooks{})
	if err := reg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Shutdown(context.WithoutCancel(t.Context())) }()
	srv := httptest.NewTLSServer(page)
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	env := with(nil, "STATUS_TOKEN", password)
	for name, c := range map[string]struct {
		code int
		args []string
		want string
	}{
		"a token":                  {cli.ExitOK, []string{"--tls-ca", ca, "--token-env", "STATUS_TOKEN"}, "COMPONENTS"},
		"no token":                 {cli.ExitOK, []string{"--tls-ca", ca}, "no details"},
		"a token that is not set":  {cli.ExitUsage, []string{"--tls-ca", ca, "--token-env", "OTHER_TOKEN"}, "--token-env is not set"},
		"an authority not trusted": {cli.ExitFindings, []string{"--token-env", "STATUS_TOKEN"}, "certificate"},
	} {
		r := run(t, env, append([]string{"watch", srv.URL}, c.args...)...)
		if all := r.out + r.err; r.code != c.code || !strings.Contains(all, c.want) {
			t.Errorf("%s: exit code %d, want %d:\n%s", name, r.code, c.code, all)
		}
	}
}
