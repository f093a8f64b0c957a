package health

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// HandlerOption changes what a handler shows.
type HandlerOption func(*handler)

// WithDetails shows names, reasons and error texts to requests for which allow returns true.
// Without it, and to everybody else, no path and no format tells more than the status; without it,
// ?verbose says that it is needed. allow may be called concurrently, should be quick, and is called
// only when there is something to show: the status is not pass, or ?verbose asks for it. Error
// texts are shown without what looks like a credential, to whomever. A detailed page is rendered at
// its first request after a change and then kept.
func WithDetails(allow func(*http.Request) bool) HandlerOption {
	return func(h *handler) { h.allow = allow }
}

// Handler answers /livez, /readyz, /startupz and /groupz/{group}, and below each of them for a
// single check: /readyz/postgres. It knows GET and HEAD. 200 is pass or warn, 503 is fail, 404 a
// path, group or check that is not there.
//
// The page is text, or JSON (application/health+json) if Accept prefers that or application/json.
// ?verbose lists all checks, ?exclude=name leaves one out; it may be repeated, and a name that is
// not there is a warning on the page, as in Kubernetes.
//
// Handlers may be used before Start and after Stop. They run no check, take no lock that a check
// can hold, and without query parameters cost the same for any number of checks.
func Handler(m *Monitor, opts ...HandlerOption) http.Handler { return newHandler(m, "", opts) }

// GroupHandler answers for one group (GroupReady, say) on whatever path it is mounted. If the
// pattern has a wildcard named check ("/ready/{check...}", see [http.Request.PathValue]), it answers
// for that check. While no check belongs to a group of your own it answers 404.
func GroupHandler(m *Monitor, group string, opts ...HandlerOption) http.Handler {
	return newHandler(m, group, opts)
}

type handler struct {
	m     *Monitor
	group string // the only group it answers for; empty: the path says which
	at    int    // position of that group among those every monitor has; customAt: it is another one
	allow func(*http.Request) bool

	brief   [StatusFail + 1][formats]prepared // what every client may see
	noStore []string                          // shared by all responses so that none is allocated; read-only
}

// prepared is a response that is ready to be sent.
type prepared struct {
	contentType []string // shared by all responses, read-only
	body        []byte
	code        int
}

func newHandler(m *Monitor, group string, opts []HandlerOption) *handler {
	h := &handler{m: m, group: group, at: customAt, noStore: []string{"no-store"}}
	if at := slices.Index(everyGroup(), group); at >= 0 {
		h.at = at
	}
	for f := range formats {
		for s := range StatusFail + 1 {
			h.brief[s][f] = prepared{[]string{f.contentType()}, briefPage(s, f), http.StatusOK}
			if !s.OK() {
				h.brief[s][f].code = http.StatusServiceUnavailable
			}
		}
	}
	for _, o := range opts {
		o(h)
	}
	return h
}

// ServeHTTP answers what an orchestrator asks, again and again, from prepared bytes; serve does
// everything else.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g := h.fixed(h.m.pub.page.Load(), r)
	if g == nil || r.URL.RawQuery != "" || r.Method != http.MethodGet || (g.status != StatusPass && h.particular(g)) {
		h.serve(w, r)
		return
	}
	f := plainText
	if accept := r.Header["Accept"]; len(accept) > 0 && (len(accept) > 1 || accept[0] != "*/*") {
		f = negotiate(accept)
	}
	p := &h.brief[g.status][f]
	header := w.Header()
	header["Content-Type"] = p.contentType
	header["Cache-Control"] = h.noStore
	if p.code != http.StatusOK {
		w.WriteHeader(p.code)
	}
	_, _ = w.Write(p.body) // an error means that the client went away
}

// fixed returns the page of one of the groups every monitor has, if that is what r asks for, and
// nil if not.
func (h *handler) fixed(p *pages, r *http.Request) *groupPage {
	if h.group != "" {
		if h.at < customAt && r.PathValue("check") == "" {
			return p.groups[h.at]
		}
		return nil
	}
	switch r.URL.Path {
	case "/readyz":
		return p.groups[readyAt]
	case "/livez":
		return p.groups[liveAt]
	case "/startupz":
		return p.groups[startupAt]
	}
	return nil
}

// particular is whether the page of g, which does not pass, cannot be served as it is: it may have
// details to show, or a heart that was silent may beat again.
func (h *handler) particular(g *groupPage) bool { return h.allow != nil || g.name == GroupLive }

// serve answers whatever r asks.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		write(w, r, http.StatusMethodNotAllowed, plainText, []byte("method not allowed\n"))
		return
	}
	if len(r.URL.RawQuery) > maxQuery {
		write(w, r, http.StatusRequestURITooLong, plainText, []byte("query too long\n"))
		return
	}
	name, check, ok := h.target(r)
	g := h.m.pub.fresh(name)
	v := view{group: g, only: check}
	v.verbose, v.exclude = parseQuery(r.URL.RawQuery)
	if !ok || g == nil || !v.resolve() {
		write(w, r, http.StatusNotFound, plainText, []byte("not found\n"))
		return
	}
	f := negotiate(r.Header["Accept"])
	if v.verbose && h.allow == nil {
		v.warnings = append(v.warnings, "?verbose needs health.WithDetails where this handler is made")
	}
	v.detailed = (v.verbose || v.status != StatusPass) && h.allow != nil && h.allow(r)
	p := &h.brief[v.status][f]
	body := p.body
	if v.detailed || len(v.warnings) > 0 {
		body = v.page(f)
	}
	write(w, r, p.code, f, body)
}

func write(w http.ResponseWriter, r *http.Request, code int, f format, body []byte) {
	header := w.Header()
	header.Set("Content-Type", f.contentType())
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// target says which group, and which check of it, r asks for.
func (h *handler) target(r *http.Request) (group, check string, ok bool) {
	if h.group != "" {
		return h.group, strings.Trim(r.PathValue("check"), "/"), true
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/")
	if !ok {
		return "", "", false
	}
	first, check, _ := strings.Cut(rest, "/")
	switch first {
	case "livez":
		group = GroupLive
	case "readyz":
		group = GroupReady
	case "startupz":
		group = GroupStartup
	case "groupz":
		group, check, _ = strings.Cut(check, "/")
	}
	return group, strings.TrimSuffix(check, "/"), group != ""
}

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

func (f format) contentType() string {
	if f == jsonText {
		return "application/health+json"
	}
	return "text/plain; charset=utf-8"
}

// negotiate chooses by the Accept header (RFC 9110, section 12.5.1). A probe is answered in any
// case: what cannot be satisfied gets text. application/json gets the JSON page as well.
func negotiate(accept []string) format {
	json := max(acceptance(accept, "application/health+json"), acceptance(accept, "application/json"))
	if json > acceptance(accept, "text/plain") {
		return jsonText
	}
	return plainText
}

// acceptance is the weight that Accept gives to a media type: that of the most specific range which
// matches, 0 if none does.
func acceptance(accept []string, mediaType string) (weight float64) {
	best := 0
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			mediaRange, params, _ := strings.Cut(item, ";")
			if s := specificity(strings.TrimSpace(mediaRange), mediaType); s > best {
				best, weight = s, weightOf(params)
			}
		}
	}
	return weight
}

// specificity is 3 for the type itself, 2 for its family, 1 for anything, and 0 for what does not
// match.
func specificity(mediaRange, mediaType string) int {
	family, _, _ := strings.Cut(mediaType, "/")
	name, sub, _ := strings.Cut(mediaRange, "/")
	switch {
	case strings.EqualFold(mediaRange, mediaType):
		return 3
	case strings.EqualFold(name, family) && sub == "*":
		return 2
	case mediaRange == "*/*":
		return 1
	}
	return 0
}

// weightOf reads q from the parameters of a media range. Nonsense counts as 1, as if it were not
// there.
func weightOf(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if q, err := strconv.ParseFloat(value, 64); err == nil && q >= 0 && q <= 1 && strings.EqualFold(name, "q") {
			return q
		}
	}
	return 1
}
