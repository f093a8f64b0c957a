package health

import (
	"net/http"
	"slices"
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
// The page is text, or JSON if Accept asks for application/json or application/health+json.
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

	brief [StatusFail + 1][formats]prepared // what every client may see

	// Header values, shared by all responses so that none is allocated. They are read-only.
	noStore, noSniff, methods []string
}

// prepared is a response that is ready to be sent.
type prepared struct {
	contentType []string
	body        []byte
	code        int
}

func newHandler(m *Monitor, group string, opts []HandlerOption) *handler {
	h := &handler{
		m: m, group: group, at: customAt,
		noStore: []string{"no-store"}, noSniff: []string{"nosniff"}, methods: []string{"GET, HEAD"},
	}
	if at := slices.Index(everyGroup(), group); at >= 0 {
		h.at = at
	}
	for f := range formats {
		contentType := []string{f.contentType()}
		for s := range StatusFail + 1 {
			h.brief[s][f] = prepared{contentType, briefPage(s, f), http.StatusOK}
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
	g := h.fixed(h.m.page.Load(), r)
	if g == nil || r.URL.RawQuery != "" || r.Method != http.MethodGet || (g.status != StatusPass && h.particular(g)) {
		h.serve(w, r)
		return
	}
	f := plain
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
func (h *handler) fixed(s *snapshot, r *http.Request) *groupPage {
	if h.group != "" {
		if h.at < customAt && r.PathValue("check") == "" {
			return s.groups[h.at]
		}
		return nil
	}
	switch r.URL.Path {
	case "/readyz":
		return s.groups[readyAt]
	case "/livez":
		return s.groups[liveAt]
	case "/startupz":
		return s.groups[startupAt]
	}
	return nil
}

// particular is whether the page of g, which does not pass, cannot be served as it is: it may have
// details to show, or a heart that was silent may beat again.
func (h *handler) particular(g *groupPage) bool { return h.allow != nil || g.name == GroupLive }

// serve answers whatever r asks.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header["Cache-Control"] = h.noStore
	header["X-Content-Type-Options"] = h.noSniff
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header["Allow"] = h.methods
		h.write(w, r, http.StatusMethodNotAllowed, plain, []byte("method not allowed\n"))
		return
	}
	if len(r.URL.RawQuery) > maxQuery {
		h.write(w, r, http.StatusRequestURITooLong, plain, []byte("query too long\n"))
		return
	}
	name, check, ok := h.target(r)
	g := h.m.fresh(name)
	if !ok || g == nil {
		h.write(w, r, http.StatusNotFound, plain, []byte("not found\n"))
		return
	}
	v := view{group: g, only: check}
	v.verbose, v.exclude = parseQuery(r.URL.RawQuery)
	if !v.resolve() {
		h.write(w, r, http.StatusNotFound, plain, []byte("not found\n"))
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
	h.write(w, r, p.code, f, body)
}

func (h *handler) write(w http.ResponseWriter, r *http.Request, code int, f format, body []byte) {
	w.Header()["Content-Type"] = h.brief[StatusPass][f].contentType
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
