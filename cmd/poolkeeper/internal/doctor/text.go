package doctor

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
)

// WriteText writes the report for a person.
func (r Report) WriteText(w io.Writer, st term.Styles) error {
	var b strings.Builder
	for i := range r.Servers {
		if i > 0 {
			b.WriteByte('\n')
		}
		r.Servers[i].write(&b, st)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Server) write(b *strings.Builder, st term.Styles) {
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(b, "  %s %s\n", st.Faint(fmt.Sprintf("%-12s", label)), term.Printable(text))
		}
	}
	fmt.Fprintln(b, st.Bold(s.Target))
	if s.Reachable {
		fmt.Fprintf(b, "  %s %s\n", st.Good(fmt.Sprintf("%-12s", "reachable")), term.Printable(s.product()))
	} else {
		fmt.Fprintf(b, "  %s %s: %s\n", st.Bad(fmt.Sprintf("%-12s", "fails")), s.Cause, term.Printable(s.Error))
	}
	line("addresses", addressList(s.Addresses))
	line("latency", s.Latency.String())
	line("answer", s.answer())
	line("settings", settings(s.Settings))
	line("connections", s.Limits.String())
	for _, c := range s.Certificates {
		label := "certificate"
		if c.Kind == poolkeeper.ExpiryCA {
			label = "authority"
		}
		line(label, fmt.Sprintf("%s, until %s", c.Subject, c.NotAfter.UTC().Format(time.DateTime+" MST")))
	}
	if s.Reachable && s.Budget != (Budget{}) {
		line("budget", s.Budget.String())
	}
	for _, l := range s.LeftOut {
		line("not asked", l)
	}
	for _, f := range s.Findings {
		fmt.Fprintf(b, "  %s %s\n", f.label(st), term.Printable(f.Text))
	}
	if len(s.Findings) == 0 {
		fmt.Fprintf(b, "  %s\n", st.Good("nothing to change"))
	}
}

// addressList returns the addresses of a name, unless there is only one.
func addressList(all []Address) string {
	if len(all) < 2 {
		return ""
	}
	parts := make([]string, len(all))
	for i, a := range all {
		parts[i] = a.Address + " " + millis(a.Connect)
		if a.Error != "" {
			parts[i] = a.Address + " " + a.Error
		}
	}
	return strings.Join(parts, ", ")
}

// answer returns what an HTTP or gRPC server has answered.
func (s *Server) answer() string {
	if s.GRPC != nil {
		if s.GRPC.Service != "" {
			return fmt.Sprintf("%s of %s", s.GRPC.Health, s.GRPC.Service)
		}
		return s.GRPC.Health
	}
	h := s.HTTP
	if h == nil || h.Status == 0 {
		return ""
	}
	parts := []string{strings.TrimSpace(fmt.Sprintf("%d %s", h.Status, http.StatusText(h.Status)))}
	if h.ContentType != "" {
		parts = append(parts, h.ContentType)
	}
	if h.Redirect != "" {
		parts = append(parts, "to "+h.Redirect)
	}
	kept := map[bool]string{true: "connection kept open", false: "connection closed"}[h.KeepAlive]
	if h.IdleTimeout > 0 {
		kept += fmt.Sprintf(" for %g s", h.IdleTimeout)
	}
	parts = append(parts, kept)
	if h.HasClock {
		parts = append(parts, fmt.Sprintf("clock %+g s", h.Clock))
	}
	return strings.Join(parts, ", ")
}

func (f Finding) label(st term.Styles) string {
	text := fmt.Sprintf("%-12s", f.Severity)
	switch f.Severity {
	case SeverityError:
		return st.Bad(text)
	case SeverityWarning:
		return st.Warning(text)
	default:
		return st.Faint(text)
	}
}

func (s *Server) product() string {
	text := strings.TrimSpace(s.Server + " " + s.Version)
	if text == "" {
		text = "unknown product"
	}
	if s.TLS != "" {
		return text + ", " + s.TLS
	}
	return text + ", without TLS"
}

// String returns the duration of each step that was reached.
func (l Latency) String() string {
	var parts []string
	add := func(name string, v float64) {
		if v > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", name, millis(v)))
		}
	}
	add("lookup", l.Lookup)
	add("connect", l.Connect)
	add("TLS", l.TLS)
	add("login", l.Login)
	add("answer", l.Answer)
	if l.Pings > 0 {
		parts = append(parts, fmt.Sprintf("ping p50 %s, p99 %s (%d pings)", millis(l.PingP50), millis(l.PingP99), l.Pings))
	}
	return strings.Join(parts, ", ")
}

func millis(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.2f ms", v)
	}
	return fmt.Sprintf("%.0f ms", v)
}

// String returns the use of the server, and the pooler or proxy before it.
func (l Limits) String() string {
	var parts []string
	if l.OnServer > 0 {
		parts = append(parts, fmt.Sprintf("%d on the server now", l.OnServer))
	}
	if l.MaxConnections > 0 {
		parts = append(parts, fmt.Sprintf("limit %d", l.MaxConnections))
	}
	if l.Reserved > 0 {
		parts = append(parts, fmt.Sprintf("%d of them reserved", l.Reserved))
	}
	if l.UserLimit > 0 {
		parts = append(parts, fmt.Sprintf("limit of the user or database %d", l.UserLimit))
	}
	if l.Node != "" {
		parts = append(parts, "of node "+l.Node)
	}
	switch {
	case l.TransactionMode:
		parts = append(parts, "behind a pooler in transaction mode")
	case l.Pooled:
		parts = append(parts, "behind a pooler")
	case l.Proxied:
		parts = append(parts, "behind a proxy")
	}
	return strings.Join(parts, ", ")
}

// String returns the computation of the budget.
func (b Budget) String() string {
	text := fmt.Sprintf("(%d + %d in a rolling update) × (MaxOpen %d + 1 for checks) = %d",
		b.Instances, b.Surge, b.PerInstance-1, b.Demand)
	if b.Granted > 0 {
		return fmt.Sprintf("%s of %d", text, b.Granted)
	}
	return text
}

func settings(all map[string]string) string {
	parts := make([]string, 0, len(all))
	for _, k := range slices.Sorted(maps.Keys(all)) {
		parts = append(parts, k+" "+all[k])
	}
	return strings.Join(parts, ", ")
}

// reason returns the error in one line, without the parts that the report shows elsewhere.
func reason(target string, err error) string {
	text := err.Error()
	if inner := errors.Unwrap(err); inner != nil { // the outer error says that the server was asked
		text = inner.Error()
	}
	text = strings.TrimPrefix(text, fmt.Sprintf("sqlpool: open a connection of %q: ", target))
	text = strings.ReplaceAll(text, ": %!w(<nil>)", "") // pgx has no cause where it prints one
	return strings.Join(strings.Fields(text), " ")
}
