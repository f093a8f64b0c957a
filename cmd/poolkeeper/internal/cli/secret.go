package cli

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
)

// Cobra's errors repeat words of a wrong command line. Such a word may be a URL with a password: the
// command before it was forgotten, or it is the value of the wrong flag.

const hidden = "***"

var (
	// urlLike is a URL, or its beginning, up to the quote that ends it.
	urlLike = regexp.MustCompile(`[A-Za-z0-9+.]*://(?:[^"\\]|\\.)*`)
	// userinfo is the part of a URL that holds the password.
	userinfo = regexp.MustCompile(`://\S*@`)
)

// withoutURLs returns the text of a cobra error without the URLs that it repeats.
func withoutURLs(text string, args []string) string {
	return urlLike.ReplaceAllString(without(text, args), hidden)
}

// redacted returns the text of a command's error without secrets. The text keeps the names of servers.
func redacted(text string, args []string) string {
	return userinfo.ReplaceAllString(without(text, args), "://"+hidden+"@")
}

// printable returns the lines of text without control characters: a server may have sent them.
func printable(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = term.Printable(l)
	}
	return strings.Join(lines, "\n")
}

// without returns text without the URLs of args that may have a password.
func without(text string, args []string) string {
	for _, a := range args {
		at := strings.Index(a, "://")
		if at < 0 || !strings.Contains(a[at:], "@") {
			continue
		}
		u := a[strings.LastIndexAny(a[:at], "-= ")+1:] // without the flag before it
		quoted := strconv.Quote(u)
		text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], hidden)
		text = strings.ReplaceAll(text, u, hidden)
	}
	return text
}

// knownTopic rejects an unknown command as an argument of help. Cobra would print it.
func knownTopic(c *cobra.Command, args []string) error {
	if topic, _, err := c.Root().Find(args); topic == nil || err != nil {
		return errors.New("help: there is no such command")
	}
	return nil
}
