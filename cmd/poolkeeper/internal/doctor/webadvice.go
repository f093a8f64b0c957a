package doctor

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// mostClock is how far clocks may differ before servers refuse tokens and new certificates.
const mostClock = 30 * time.Second

// addresses returns a finding if some addresses of a name accept no connections, and others do.
func addresses(all []Address) []Finding {
	var dead []string
	for _, a := range all {
		if a.Error != "" {
			dead = append(dead, fmt.Sprintf("%s (%s)", a.Address, a.Error))
		}
	}
	if len(dead) == 0 || len(dead) == len(all) {
		return nil
	}
	return []Finding{{SeverityWarning, "DNS", fmt.Sprintf(
		"take the addresses that accept no connections out of the name, or start their servers: %s, %d of %d",
		strings.Join(dead, ", "), len(dead), len(all),
	)}}
}

// advise returns the findings on an HTTP server.
func (h *HTTP) advise(secure bool, silent, idle time.Duration) []Finding {
	if h == nil {
		return nil
	}
	out := h.status(secure)
	if !h.KeepAlive && !h.WantsTLS {
		out = append(out, Finding{SeverityWarning, "keep-alive", "turn keep-alive on in the server, or in the proxy before it: " +
			"it closes each connection after one request, and every request opens another"})
	}
	if silent > 0 && idle >= silent {
		out = append(out, Finding{SeverityWarning, "MaxIdleTime", fmt.Sprintf(
			"set MaxIdleTime below %s: the server closes connections that are idle for so long, and MaxIdleTime is %s by default",
			short(silent), short(idle),
		)})
	}
	if off := time.Duration(math.Abs(h.Clock)) * time.Second; h.HasClock && off > mostClock {
		way := "ahead of"
		if h.Clock < 0 {
			way = "behind"
		}
		out = append(out, Finding{SeverityWarning, "clock", fmt.Sprintf(
			"set the clocks: the server's is %s %s this machine's, and tokens and certificates are judged by them", roughly(off), way,
		)})
	}
	if h.Via != "" {
		out = append(out, Finding{SeverityNote, "", fmt.Sprintf(
			"a proxy stands before the server (Via: %s): its own limits and time-outs apply first", h.Via,
		)})
	}
	return out
}

// status returns the finding on the status of the answer. httpclient.Client.Check judges in the same
// way.
func (h *HTTP) status(secure bool) []Finding {
	const check = "CheckPath"
	say := func(severity, set, format string, args ...any) []Finding {
		return []Finding{{severity, set, fmt.Sprintf(format, args...)}}
	}
	switch s := h.Status; {
	case h.WantsTLS:
		return say(SeverityError, "BaseURL", "this port speaks TLS: use https:// in BaseURL")
	case h.OtherHost:
		return say(SeverityWarning, "BaseURL", "set BaseURL to %s, or choose another CheckPath: the server redirects there (%d), and a client refuses other hosts than that of BaseURL", h.Redirect, s)
	case h.Redirect != "" && !secure && strings.HasPrefix(h.Redirect, "https://"):
		return say(SeverityWarning, "BaseURL", "set BaseURL to %s: the server redirects there (%d)", h.Redirect, s)
	case h.Redirect != "":
		return say(SeverityNote, check, "the path redirects to another on the same host (%d): CheckPath may name that one", s)
	case s == 401, s == 403:
		return say(SeverityWarning, check, "set Authorize, or a CheckPath that needs no credentials: the server answers %d, and a check counts that as a failure", s)
	case s == 404:
		return say(SeverityWarning, check, "set CheckPath to a path that exists: the server answers 404, and a check counts that as a failure")
	case s == 429:
		return say(SeverityWarning, check, "the server limits the rate of requests to this path (429), and a check counts that as a failure: choose another CheckPath")
	case s >= 500:
		return say(SeverityError, check, "the server answers %d: it is not well, or a proxy before it does not reach it", s)
	case s >= 400:
		return say(SeverityNote, check, "the server answers %d: a check counts that as an answer", s)
	}
	return nil
}

// advise returns the finding on the health of a gRPC server.
func (g *GRPC) advise() []Finding {
	if g == nil {
		return nil
	}
	of := "the server"
	if g.Service != "" {
		of = fmt.Sprintf("the service %q", g.Service)
	}
	switch g.Health {
	case "SERVING":
		return nil
	case "Unimplemented":
		return []Finding{{SeverityNote, "", "the server lacks gRPC's health protocol (grpc.health.v1): a check can tell only that it answers"}}
	case "NotFound", "SERVICE_UNKNOWN":
		return []Finding{{SeverityError, "", fmt.Sprintf("the health protocol does not know %s: check its name in the URL, or set its status in the server", of)}}
	case "Unauthenticated", "PermissionDenied":
		return []Finding{{SeverityWarning, "", fmt.Sprintf("allow the health protocol without credentials: the server answers %s", g.Health)}}
	default:
		return []Finding{{SeverityError, "", fmt.Sprintf("the health protocol says %s of %s: look at the server's own checks", g.Health, of)}}
	}
}
