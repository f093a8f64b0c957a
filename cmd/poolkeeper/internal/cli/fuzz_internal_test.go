package cli

import (
	"fmt"
	"strings"
	"testing"
)

// An error that repeats a URL of the command line, as it is, quoted, or after its flag, shows no
// password.
func FuzzErrorsShowNoPasswordOfTheCommandLine(f *testing.F) {
	f.Add("redis", "", "h:6379", "--url=")
	f.Add("postgres", " ", "h/db", "-u")
	f.Add("mysql", "\"\\", "tcp(h)/d", "")
	f.Add("https", "%zz\n", "h", "=")
	f.Fuzz(func(t *testing.T, scheme, before, tail, flag string) {
		const secret = "hunter2secret"
		for _, r := range scheme {
			if r != '+' && (r < 'a' || r > 'z') {
				return
			}
		}
		if scheme == "" {
			return
		}
		u := scheme + "://user:" + before + secret + "@" + tail
		if strings.Count(u, "://") > 1 {
			return // two URLs in one argument
		}
		args := []string{"doctor", flag + u}
		if flag != "" && !strings.ContainsAny(flag[len(flag)-1:], "-= ") {
			args[1] = flag + "=" + u
		}
		for _, text := range []string{
			"unknown command " + u, fmt.Sprintf("unknown command %q for x", u), "bad flag: " + args[1], fmt.Sprintf("%q, %q", args[1], u), u + u,
		} {
			for name, shown := range map[string]string{"redacted": redacted(text, args), "withoutURLs": withoutURLs(text, args)} {
				if strings.Contains(shown, secret) {
					t.Errorf("%s of %q: %q", name, text, shown)
				}
			}
		}
	})
}
