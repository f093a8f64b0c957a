package httpclient_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/httpclient"
)

// Whatever is given as the server: a password is in no fault, a URL with a user is refused, and what
// is accepted leads to the host that net/url reads in it.
func FuzzServers(f *testing.F) {
	for _, s := range [][2]string{
		{"https://billing.internal", "10.0.0.7:443"},
		{"http://u:hunter2secret@h/", "u:hunter2secret@h:1"},
		{"https://h/%zz", "h:0"},
		{"//h", "[::1]:80"},
		{"https://[::1%25eth0]:443/path", "h:70000"},
		{"HTTP://H", "H:80"},
	} {
		f.Add(s[0], "", s[1])
	}
	f.Add("https://a:", "b@h", "x:")
	f.Fuzz(func(t *testing.T, before, after, host string) {
		const secret = "hunter2secret"
		for _, base := range []string{before + after, before + secret + after, "https://u:" + before + secret + after + "@h"} {
			err := httpclient.Config{BaseURL: base, Hosts: []string{host, before + secret + after + "@h:1"}}.Validate()
			if err != nil && strings.Contains(strings.ReplaceAll(err.Error(), host, ""), secret) && !strings.Contains(err.Error(), "has the scheme") {
				t.Fatalf("%q: the error shows the secret: %v", base, err)
			}
			if err = (httpclient.Config{BaseURL: base}).Validate(); err != nil || base == "" {
				continue
			}
			u, err := url.Parse(base)
			if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
				t.Fatalf("%q is accepted", base)
			}
			c, err := httpclient.New(httpclient.Config{BaseURL: base})
			if err != nil {
				t.Fatal(err)
			}
			if err = c.Abort(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
