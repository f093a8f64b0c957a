package health

import (
	"net/url"
	"strings"
)

const (
	maxQuery   = 8 << 10 // bytes of a query string that is looked at; longer ones are refused
	maxExclude = 100     // names in one query; further ones are not looked at
)

// parseQuery reads the parameters of a probe: verbose, as a word or with a value other than 0 and
// false, and any number of exclude=name. Others are ignored: orchestrators and browsers add their
// own.
func parseQuery(raw string) (verbose bool, exclude []string) {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		if err != nil {
			continue
		}
		switch key {
		case "verbose":
			verbose = value != "0" && value != "false"
		case "exclude":
			if value != "" && len(exclude) < maxExclude {
				exclude = append(exclude, value)
			}
		}
	}
	return verbose, exclude
}
