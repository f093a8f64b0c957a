// Package redact takes secrets out of texts that other code wrote, such as the errors of drivers.
package redact

import (
	"regexp"
	"strings"
	"unicode"
)

// maxText bounds an error's text in a page, in bytes.
const maxText = 1024

const mask = "***"

const secretKey = `[a-z0-9_-]*(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|credentials?)`

// The forms that secrets have in the URLs and DSNs of the drivers, and elsewhere. Where a password
// may hold spaces, it may be anything, and more is hidden than has to be.
var (
	// scheme://user:password@host. Greedy: a password that was not percent-encoded may hold any of
	// /, ?, # and @.
	userinfo = regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://)\S*@`)
	// The same with white space in the password. Where that begins like a port, a host must follow
	// that ends like one of a URL.
	spacedUserinfo = regexp.MustCompile(`(?is)\b([a-z][a-z0-9+.-]*://)[^\s/@?#:]*:` +
		`(?:(?:[^\s\d]\S*|\d+[^\s\d/]\S*|\d{6,})\s.*@|\d+\s.*@([^\s@/:]*[:/]))`)
	// user:password@net(address)/ and user:password@/, as go-sql-driver/mysql reads it. Greedy: it
	// takes the last @.
	mysqlDSN = regexp.MustCompile("(?is)[^\\s:\"'`(=]*:\\S.*@((?:[a-z][a-z0-9+_-]*\\(|/))")
	// user:password@net/, the same without an address. A URL goes on with // after its colon.
	mysqlShort = regexp.MustCompile("(?i)[^\\s:\"'`(=]*:(?:[^\\s/]|/[^\\s/])\\S*@([a-z][a-z0-9+_-]*/)")
	// A keyword/value DSN of PostgreSQL whose password has spaces without quotes.
	spacedValue = regexp.MustCompile(`(?is)\b([a-z]*passw(?:or)?d\s*=\s*)[^\s'"\\&].*?(\s+[a-z_]+\s*=)`)
	// ?password=…&, in a URL.
	queryValue = regexp.MustCompile(`(?i)([?&]` + secretKey + `=)[^\s&#"']+`)
	// password=…, "password": "…", PGPASSWORD=…. A quote that does not end hides the rest.
	keyValue = regexp.MustCompile(`(?is)(^|[^?&\w-])(` + secretKey + `)` +
		`(?:(\\*["']?\s*[=:]\s*)(\\+".*?\\+"|"(?:[^"\\]|\\.|"")*"|'(?:[^'\\]|\\.|'')*'|\\*["'].*)` +
		`|(["']?\s*=\s*)((?:\\.|[^\s\\])+)|(["']?\s*:\s*)([^\s,;&)}\]]+))`)
	bearer = regexp.MustCompile(`(?i)\b(bearer|authorization["']?[:=]?\s*["']?basic)\s+[a-z0-9._~+/=-]{8,}`)
	// What net/url quotes of a URL it cannot parse is often a piece of the password.
	urlPiece = regexp.MustCompile(`(invalid (?:port|URL escape|character)) "(?:[^"\\]|\\.)*"`)
)

// Text makes an error's text fit for a page: no credentials, one line, not too long. Drivers are
// careful with secrets; errors of people's own probes often hold a whole URL.
func Text(s string) string {
	if len(s) > 4*maxText {
		s = s[:4*maxText]
		if at := strings.LastIndexFunc(s, unicode.IsSpace); at >= 0 {
			s = s[:at] // what is cut in two may be a URL whose end would show that it holds a password
		} else {
			s = ""
		}
	}
	s = userinfo.ReplaceAllString(s, "${1}"+mask+"@")
	s = spacedUserinfo.ReplaceAllString(s, "${1}"+mask+"@${2}")
	s = mysqlDSN.ReplaceAllString(s, mask+"@${1}")
	s = mysqlShort.ReplaceAllString(s, mask+"@${1}")
	s = spacedValue.ReplaceAllString(s, "${1}"+mask+"${2}")
	s = queryValue.ReplaceAllString(s, "${1}"+mask)
	s = keyValue.ReplaceAllString(s, "${1}${2}${3}${5}${7}"+mask)
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
