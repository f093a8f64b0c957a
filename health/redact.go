package health

import (
	"regexp"
	"strings"
	"unicode"
)

// maxText bounds an error's text in a page, in bytes.
const maxText = 1024

const mask = "***"

var (
	// scheme://user:password@host. Greedy: a password that was not percent-encoded may hold any of /, ?, # and @.
	userinfo = regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://)\S*@`)
	// user:password@tcp(host), as go-sql-driver/mysql writes it.
	mysqlDSN = regexp.MustCompile(`(?i)\S+:\S*@(tcp|tcp6|unix)\(`)
	// password=…, "password": "…", PGPASSWORD=….
	keyValue = regexp.MustCompile(`(?i)\b([a-z0-9_-]*(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|credentials?))` +
		`(["']?\s*[=:]\s*)("(?:[^"\\]|\\.|"")*"|'(?:[^'\\]|\\.|'')*'|[^\s,;&)}\]]+)`)
	bearer = regexp.MustCompile(`(?i)\b(bearer|authorization["']?[:=]?\s*["']?basic)\s+[a-z0-9._~+/=-]{8,}`)
	// What net/url quotes of a URL it cannot parse is often a piece of the password.
	urlPiece = regexp.MustCompile(`(invalid (?:port|URL escape|character)) "(?:[^"\\]|\\.)*"`)
)

// redact makes an error's text fit for a page: no credentials, one line, not too long. Drivers are careful with
// secrets; errors of people's own probes often hold a whole URL.
func redact(s string) string {
	if len(s) > 4*maxText {
		s = s[:4*maxText]
	}
	s = userinfo.ReplaceAllString(s, "${1}"+mask+"@")
	s = mysqlDSN.ReplaceAllString(s, mask+"@${1}(")
	s = keyValue.ReplaceAllString(s, "${1}${2}"+mask)
	s = urlPiece.ReplaceAllString(s, `${1} "`+mask+`"`)
	s = bearer.ReplaceAllString(s, "${1} "+mask)
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}
