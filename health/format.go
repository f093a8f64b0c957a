package health

import "strings"

// format is the way a page is written.
type format uint8

const (
	plain format = iota
	jsonFormat
	healthJSON // the same bytes as jsonFormat, under their registered-to-be name
	formats
)

// contentType names the formats. The first one is the default.
func (f format) contentType() string {
	switch f {
	case jsonFormat:
		return "application/json"
	case healthJSON:
		return "application/health+json"
	case plain, formats:
	}
	return "text/plain; charset=utf-8"
}

// negotiate chooses by the Accept header (RFC 9110, section 12.5.1). A probe is answered in any
// case: what cannot be satisfied gets text.
func negotiate(accept []string) format {
	var best [formats]quality
	for _, line := range accept {
		if len(line) > 1024 {
			line = line[:1024]
		}
		for line != "" {
			var item string
			item, line, _ = strings.Cut(line, ",")
			weigh(&best, item)
		}
	}
	chosen, q := plain, 0
	for f := range formats {
		if best[f].q > q {
			chosen, q = f, best[f].q
		}
	}
	return chosen
}

// quality is the client's preference for a format, in thousandths, by the most specific matching
// range.
type quality struct{ specific, q int }

func weigh(best *[formats]quality, item string) {
	mediaRange, params, _ := strings.Cut(item, ";")
	mediaRange = strings.TrimSpace(mediaRange)
	q := qualityOf(params)
	for f := range formats {
		name, _, _ := strings.Cut(f.contentType(), ";")
		specific := 0
		switch {
		case strings.EqualFold(mediaRange, name):
			specific = 3
		case len(mediaRange) > 2 && strings.HasSuffix(mediaRange, "/*") &&
			len(name) >= len(mediaRange) && strings.EqualFold(name[:len(mediaRange)-1], mediaRange[:len(mediaRange)-1]):
			specific = 2
		case mediaRange == "*/*":
			specific = 1
		}
		if specific > best[f].specific {
			best[f] = quality{specific, q}
		}
	}
}

// qualityOf reads the weight from the parameters of a media range: q=0.8 is 800. Nonsense counts as
// 1.
func qualityOf(params string) int {
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			return thousandths(strings.TrimSpace(value))
		}
	}
	return 1000
}

func thousandths(s string) int {
	whole, frac, _ := strings.Cut(s, ".")
	if (whole != "0" && whole != "1") || len(frac) > 3 {
		return 1000
	}
	n := 0
	for i := range 3 {
		n *= 10
		if i < len(frac) {
			if frac[i] < '0' || frac[i] > '9' {
				return 1000
			}
			n += int(frac[i] - '0')
		}
	}
	if whole == "1" {
		return 1000
	}
	return n
}
