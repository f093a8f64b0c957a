package redispool_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestFaultsOfFilesAreAllReportedAndShowNothing(t *testing.T) { // INV-12
	dir := t.TempDir()
	path := func(name, content string) string {
		p := filepath.Join(dir, name)
		write(t, p, []byte(content))
		return p
	}
	ca := testcerts.New(t)
	cert, key := ca.Leaf(t, "127.0.0.1")
	_, otherKey := ca.Leaf(t, "127.0.0.1")
	good := poolkeeper.TLSFiles{CA: path("ca", string(ca.PEM)), Cert: path("cert", string(cert)), Key: path("key", string(key))}
	if err := (redispool.Config{URL: "redis://h", TLSFiles: good, CredentialsFile: path("ok", " app:a:b \n")}).Validate(); err != nil {
		t.Errorf("good files: %v", err)
	}
	for name, c := range map[string]struct {
		cfg  redispool.Config
		want []string
	}{
		"missing": {
			redispool.Config{TLSFiles: poolkeeper.TLSFiles{CA: dir + "/no1", Cert: dir + "/no2", Key: dir + "/no3"}, CredentialsFile: dir + "/no4"},
			[]string{"TLSFiles.CA: open", "no1", "no2", "no3", "CredentialsFile: open", "no4"},
		},
		"unfit": {
			redispool.Config{
				TLSFiles:        poolkeeper.TLSFiles{CA: path("empty", ""), Cert: good.Cert, Key: path("otherkey", string(otherKey))},
				CredentialsFile: path("half", "hunter2:"),
			},
			[]string{"no certificate in", "cert with", "private key does not match", "no password in"},
		},
		"one of two": {redispool.Config{TLSFiles: poolkeeper.TLSFiles{Cert: good.Cert}}, []string{"both, or neither"}},
		"contradictions": {
			redispool.Config{
				TLSFiles:        good,
				TLS:             &tls.Config{RootCAs: x509.NewCertPool(), Certificates: make([]tls.Certificate, 1)},
				CredentialsFile: path("ok", "app:x"),
				Credentials:     func(context.Context) (string, string, error) { return "", "", nil },
			},
			[]string{"TLS.RootCAs and TLSFiles.CA", "TLS has a certificate of its own", "Credentials and CredentialsFile"},
		},
	} {
		c.cfg.URL = "redis://h"
		err := c.cfg.Validate()
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want it to say %q", name, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := redispool.Config{
		Options: &redis.UniversalOptions{Addrs: []string{"/run/redis.sock"}, StreamingCredentialsProvider: struct {
			auth.StreamingCredentialsProvider
		}{}},
		TLSFiles: good, CredentialsFile: path("ok", "x"),
	}.Validate()
	for _, want := range []string{"local socket", "StreamingCredentialsProvider"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want it to say %q", err, want)
		}
	}
}
