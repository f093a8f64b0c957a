package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
)

// Severities of a [Finding].
const (
	SeverityError   = "error"   // it does not work, or will not
	SeverityWarning = "warning" // it should be changed
	SeverityNote    = "note"    // good to know
)

// Finding is something to change, or to know.
type Finding struct {
	Severity string `json:"severity"`
	// Set is the field of the pool's configuration, or the server's setting, that the text is about.
	Set  string `json:"set,omitempty"`
	Text string `json:"text"`
}

// Circumstances holds the facts that Advise needs beside the server's answer.
type Circumstances struct {
	Now             time.Time
	MaxOpen         int
	KeepAlive       time.Duration // 0: the pool follows the server's time-out
	MaxLifetime     time.Duration // of connections; 0: no limit
	ChoosesExecMode bool          // the URL says how pgx runs queries
	Local           bool          // the server is on this machine
}

// Advise returns the findings on a server, the most severe first.
func Advise(s Server, c Circumstances) []Finding {
	var out []Finding
	if !s.Reachable {
		out = append(out, unreachable(s))
	}
	out = append(out, budget(s.Kind, s.Budget, s.Limits, c.MaxOpen)...)
	if s.Kind == KindHTTP {
		out = append(out, s.HTTP.advise(s.TLS != "", s.silent, httpclient.DefaultMaxIdleTime)...)
	} else {
		out = append(out, silence(s, c)...)
	}
	out = append(out, s.GRPC.advise()...)
	out = append(out, addresses(s.Addresses)...)
	out = append(out, pooler(s.Limits, c.ChoosesExecMode)...)
	out = append(out, certificates(s.Certificates, c.Now)...)
	if v, ok := s.Settings["tcp-keepalive"]; ok && v == "0" {
		out = append(out, Finding{
			SeverityWarning, "tcp-keepalive",
			"set tcp-keepalive on the server (300 is its default): with 0 it keeps the connections of instances that have vanished",
		})
	}
	if s.Proxy != "" {
		out = append(out, Finding{SeverityNote, "Proxy", fmt.Sprintf(
			"requests go through the proxy %s, as the environment says (HTTP_PROXY, HTTPS_PROXY): addresses are its business", s.Proxy,
		)})
	}
	if s.Reachable && s.TLS == "" && !c.Local {
		out = append(out, Finding{SeverityNote, "TLS", "the connection is not encrypted"})
	}
	order := []string{SeverityError, SeverityWarning, SeverityNote}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
	return out
}

func unreachable(s Server) Finding {
	text := s.Advice
	if text == "" {
		text = "the server rejects the connection: see the error"
	}
	return Finding{Severity: SeverityError, Text: text}
}

// budget returns the MaxOpen that fits, or the limit to raise if none does.
func budget(kind string, b Budget, l Limits, maxOpen int) []Finding {
	if b.Granted == 0 || b.Demand <= b.Granted {
		return nil
	}
	all := b.Instances + b.Surge
	who := fmt.Sprintf("%s and %d in a rolling update", count(b.Instances, "instance"), b.Surge)
	now := fmt.Sprintf("with MaxOpen %d they may open %d × (%d+1) = %d", maxOpen, all, maxOpen, b.Demand)
	granted := limitOf(kind)
	if l.UserLimit > 0 && l.UserLimit == b.Granted {
		granted = "the limit of the user or database"
	}
	if fits := b.Granted/all - 1; fits >= 1 {
		return []Finding{{SeverityError, "MaxOpen", fmt.Sprintf(
			"set MaxOpen to %d: %s may open %d × (%d+1) = %d of %d; %s", fits, who, all, fits, all*(fits+1), b.Granted, now,
		)}}
	}
	return []Finding{{SeverityError, granted, fmt.Sprintf(
		"raise %s to %d, or run fewer instances: the server grants %d, and %s need %d even with MaxOpen 1; %s",
		granted, b.Demand+l.Reserved, b.Granted, who, 2*all, now,
	)}}
}

// limitOf is the name of the server's limit.
func limitOf(kind string) string {
	if kind == KindRedis {
		return "maxclients"
	}
	return "max_connections"
}

// silence compares KeepAlive with the time after which the server closes a silent connection. A
// MaxLifetime below that time closes the connection first.
func silence(s Server, c Circumstances) []Finding {
	limit := s.silent
	switch {
	case limit <= 0, s.Limits.Pooled, c.MaxLifetime > 0 && c.MaxLifetime < limit:
		return nil
	case c.KeepAlive == 0:
		return []Finding{{SeverityNote, "KeepAlive", fmt.Sprintf(
			"the server closes connections that are silent for %s; by default the pool pings them in time", short(limit),
		)}}
	case c.KeepAlive >= limit:
		return []Finding{{SeverityWarning, "KeepAlive", fmt.Sprintf(
			"set KeepAlive below %s: the server closes silent connections then, and KeepAlive is %s", short(limit), short(c.KeepAlive),
		)}}
	default:
		return nil
	}
}

// pooler returns the setting that a pooler before PostgreSQL requires.
func pooler(l Limits, chooses bool) []Finding {
	switch {
	case !l.Pooled:
		if l.Proxied {
			return []Finding{{SeverityNote, "", "a proxy stands before the server: its own limits apply first, and the doctor cannot read them"}}
		}
		return nil
	case chooses:
		return []Finding{{SeverityNote, "", "a pooler stands before PostgreSQL; the URL sets how pgx runs queries"}}
	case l.TransactionMode:
		return []Finding{{SeverityWarning, "URL", "set default_query_exec_mode=exec in URL: " +
			"a pooler in transaction mode stands before PostgreSQL, and loses the statements that pgx prepares; " +
			"or raise max_prepared_statements of pgbouncer 1.21 or later"}}
	default:
		return []Finding{{SeverityNote, "URL", "a pooler of unknown mode stands before PostgreSQL: " +
			"in transaction mode, set default_query_exec_mode=exec in URL"}}
	}
}

// A certificate that expires within these times is a warning, or a note.
const (
	expiresSoon = 14 * 24 * time.Hour
	expiresNext = 30 * 24 * time.Hour
)

// certificates returns a finding for each certificate that has expired or will soon.
func certificates(all []Certificate, now time.Time) []Finding {
	var out []Finding
	for _, c := range all {
		what := "the server's certificate"
		if c.Kind == poolkeeper.ExpiryCA {
			what = "the authority"
		}
		left := c.NotAfter.Sub(now)
		switch {
		case left <= 0:
			out = append(out, Finding{SeverityError, "", fmt.Sprintf("renew %s %q: it expired on %s", what, c.Subject, day(c.NotAfter))})
		case left < expiresSoon:
			out = append(out, Finding{SeverityWarning, "", fmt.Sprintf("renew %s %q: it expires in %s", what, c.Subject, roughly(left))})
		case left < expiresNext:
			out = append(out, Finding{SeverityNote, "", fmt.Sprintf("%s %q expires in %s", what, c.Subject, roughly(left))})
		}
	}
	return out
}

// count returns n and the noun, in the plural unless n is 1.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// roughly prints a duration by its largest unit.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return count(int(d.Hours())/24, "day")
	case d >= 2*time.Hour:
		return count(int(d.Hours()), "hour")
	case d >= time.Minute:
		return count(int(d.Minutes()), "minute")
	default:
		return count(int(d.Seconds()), "second")
	}
}

// short prints a duration without units that are zero: 5m, not 5m0s.
func short(d time.Duration) string {
	text := d.String()
	text = strings.TrimSuffix(text, "0s")
	if text == "" || strings.HasSuffix(text, ".") || text[len(text)-1] >= '0' && text[len(text)-1] <= '9' {
		return d.String()
	}
	if hours, ok := strings.CutSuffix(text, "h0m"); ok {
		return hours + "h"
	}
	return text
}
