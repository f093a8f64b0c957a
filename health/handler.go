package health

import (
	"net/http"
	"strings"
)

// HandlerOption changes what a handler shows.
type HandlerOption func(*handler)

// WithDetails shows names, reasons and error texts to requests for which allow returns true. Without it nobody sees
// more than the status, on any path and in any format. allow may be called concurrently, must be quick, and is only
// called when there is something to show: the status is not pass, or ?verbose asks for it.
func WithDetails(allow func(*http.Request) bool) HandlerOption {
	return func(h *handler) { h.allow = allow }
}

// Handler answers /livez, /readyz, /startupz, /groupz/{group}, and below each of them the path of a single check:
// /readyz/postgres. It knows GET and HEAD. 200 is pass or warn, 503 is fail, 404 is a path, group or check that does
// not exist.
//
// The page is text, or JSON if Accept asks for application/json or application/health+json. ?verbose lists all checks;
// ?exclude=name leaves one out and may be repeated, as in Kubernetes.
//
// It may be called before Start and after Stop.
func Handler(m *Monitor, opts ...HandlerOption) http.Handler { return newHandler(m, "", opts) }

// LiveHandler answers liveness on whatever path it is mounted.
func LiveHandler(m *Monitor, opts ...HandlerOption) http.Handler {
	return newHandler(m, GroupLive, opts)
}

// ReadyHandler answers readiness on whatever path it is mounted. If the path has a wildcard "check" as
// [http.Request.PathValue] knows it, "/readyz/{check...}", it answers for that check alone.
func ReadyHandler(m *Monitor, opts ...HandlerOption) http.Handler {
	return newHandler(m, GroupReady, opts)
}

// StartupHandler answers startup on whatever path it is mounted; see ReadyHandler.
func StartupHandler(m *Monitor, opts ...HandlerOption) http.Handler {
	return newHandler(m, GroupStartup, opts)
}

// GroupHandler answers for a group of your own on whatever path it is mounted; see ReadyHandler. While the group has no
// check it answers 404.
func GroupHandler(m *Monitor, group string, opts ...HandlerOption) http.Handler {
	return newHandler(m, group, opts)
}

type handler struct {
	m     *Monitor
	group string // the only group it answers for; empty: by path
	allow func(*http.Request) bool

	noStore []string
	types   [formats][]string
	brief   [StatusFail + 1][formats][]byte
}

func newHandler(m *Monitor, group string, opts []HandlerOption) *handler {
	h := &handler{m: m, group: group, noStore: []string{"no-store"}}
	for f := text; f < formats; f++ {
		h.types[f] = []string{f.contentType()}
		for s := StatusPass; s <= StatusFail; s++ {
			h.brief[s][f] = []byte(`{"status":"` + s.String() + `"}` + "\n")
		}
	}
	h.brief[StatusPass][text] = []byte("ok\n")
	h.brief[StatusWarn][text] = []byte("warn\n")
	h.brief[StatusFail][text] = []byte("fail\n")
	for _, o := range opts {
		o(h)
	}
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := h.m.page.Load()
	now := h.m.now()
	var g *groupPage
	switch r.URL.Path {
	case "/readyz":
		g = s.ready()
	case "/livez":
		g = s.live()
	case "/startupz":
		g = s.startup()
	default:
		if h.group == "" {
			http.NotFound(w, r)
			return
		}
	}
	if h.group != "" {
		g = s.group(h.group)
	}
	if now > g.validUntil {
		s = h.m.refresh(s, now)
		g = s.group(g.name)
	}
	f := text
	if a := r.Header["Accept"]; len(a) > 0 && !(len(a) == 1 && a[0] == "*/*") {
		f = negotiate(a)
	}
	header := w.Header()
	header["Content-Type"] = h.types[f]
	header["Cache-Control"] = h.noStore
	if !g.status.OK() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if h.allow != nil && h.allow(r) && (g.status != StatusPass || strings.Contains(r.URL.RawQuery, "verbose")) {
		_, _ = w.Write([]byte(g.reason() + "\n"))
		return
	}
	if r.Method != http.MethodHead {
		_, _ = w.Write(h.brief[g.status][f])
	}
}
