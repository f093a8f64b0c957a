package onfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/onfile"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
)

// Whatever is in the files: no fault shows it, a password that was written is read, and certificates
// that are accepted make a configuration.
func FuzzRead(f *testing.F) {
	cert, key := testcerts.New(f).Leaf(f, "127.0.0.1")
	f.Add("user", "hunter2", cert, key)
	f.Add("", " a:b ", []byte("-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----"), []byte("-----BEGIN EC PRIVATE KEY-----\nhunter2"))
	f.Add("u", "", key, cert)
	dir := f.TempDir()
	write := func(tb testing.TB, name string, content []byte) string {
		tb.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			tb.Fatal(err)
		}
		return path
	}
	f.Fuzz(func(t *testing.T, user, password string, cert, key []byte) {
		const secret = "hunter2secret"
		c, err := onfile.Read("x: ", onfile.Names{Credentials: write(t, "credentials", []byte(user+":"+password+"\n"))})
		want := strings.TrimSpace(user + ":" + password)
		if at := strings.Index(want, ":"); at+1 < len(want) {
			if u, p := c.Login(); err != nil || u+":"+p != want || strings.Contains(u, ":") {
				t.Fatalf("%q: %q, %q, %v", want, u, p, err)
			}
		} else if err == nil {
			t.Fatalf("%q has no password, and is accepted", want)
		}
		_, err = onfile.Read("x: ", onfile.Names{
			TLSFiles: poolkeeper.TLSFiles{
				CA:   write(t, "ca", append([]byte(secret), cert...)),
				Cert: write(t, "cert", append([]byte(secret), cert...)), Key: write(t, "key", append(key, secret...)),
			},
			Credentials: write(t, "credentials", []byte(secret+":")),
		})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Fatal(err)
		}
		c, err = onfile.Read("x: ", onfile.Names{TLSFiles: poolkeeper.TLSFiles{CA: write(t, "ca", cert), Cert: write(t, "cert", cert), Key: write(t, "key", key)}})
		if err != nil {
			return
		}
		if conf := c.TLS(nil); len(conf.Certificates) != 1 || len(c.Authorities()) == 0 {
			t.Fatalf("%d certificates, %d authorities", len(conf.Certificates), len(c.Authorities()))
		}
	})
}
