package statuspage

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// ServeHTTP answers GET and HEAD of / (the page), /status.json (a [Document]) and /live (the page's
// updates), below any prefix that [http.StripPrefix] takes away. A request that Config.Allow denies
// gets overall states only, and no updates.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.routes.ServeHTTP(w, r) }

func (p *Page) newRoutes() http.Handler {
	live := lifecycle.Stream(http.HandlerFunc(p.serveLive))
	return readOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowed := allows(p.cfg.Allow, r)
		switch {
		case r.URL.Path == "":
			addSlash(w, r)
		case r.URL.Path == "/" && allowed:
			p.servePage(w, r)
		case r.URL.Path == "/":
			p.serveBriefPage(w, r)
		case r.URL.Path == "/status.json" && allowed:
			p.serveJSON(w, r)
		case r.URL.Path == "/status.json":
			writeBody(w, r, "application/json", p.briefly().json)
		case r.URL.Path == "/live" && allowed:
			live.ServeHTTP(w, r)
		case r.URL.Path == "/live":
			deny(w)
		default:
			http.NotFound(w, r)
		}
	}))
}

// readOnly refuses methods that could change anything, and sets the headers of all answers.
func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set := w.Header().Set
		set("Cache-Control", "no-store")
		set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		set("X-Content-Type-Options", "nosniff")
		set("X-Frame-Options", "DENY")
		set("Referrer-Policy", "no-referrer")
		set("Cross-Origin-Resource-Policy", "same-origin")
		set("Cross-Origin-Opener-Policy", "same-origin")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			set("Allow", "GET, HEAD")
			http.Error(w, "statuspage: nothing here can be changed: GET and HEAD only", http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// allows asks allow, which is the service's own code.
func allows(allow func(*http.Request) bool, r *http.Request) bool {
	yes := false
	if allow != nil {
		_ = guard.Catch(func() { yes = allow(r) }) // a panic denies
	}
	return yes
}

func deny(w http.ResponseWriter) {
	http.Error(w, "statuspage: not allowed: Allow denies this request", http.StatusForbidden)
}

// addSlash redirects to the same path with a slash at its end: links of the page are relative. Only
// the request line has the prefix that StripPrefix took away.
func addSlash(w http.ResponseWriter, r *http.Request) {
	last := "."
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		last = path.Base(u.Path)
	}
	w.Header().Set("Location", (&url.URL{Path: "./" + strings.Trim(last, "/") + "/"}).String())
	w.WriteHeader(http.StatusMovedPermanently)
}

func writeBody(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a reader that has gone needs no answer
	}
}

func (p *Page) serveJSON(w http.ResponseWriter, r *http.Request) {
	writeBody(w, r, "application/json", p.current().json())
}

func (p *Page) servePage(w http.ResponseWriter, r *http.Request) {
	m := p.shown()
	w.Header().Set("Content-Security-Policy", p.look.policy)
	writeBody(w, r, "text/html; charset=utf-8", m.page())
}

func (p *Page) serveBriefPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", p.look.policy)
	writeBody(w, r, "text/html; charset=utf-8", p.briefly().page)
}

// briefFor is how long a brief page is reused, so that its cost does not grow with the readers.
const briefFor = time.Second

// brief returns the page for readers that Allow denies.
type brief struct {
	mu         sync.Mutex // guards the following
	at         time.Time
	json, page []byte
}

// briefView is one moment of it.
type briefView struct{ json, page []byte }

func (p *Page) briefly() briefView {
	b := &p.brief
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := time.Now(); b.page == nil || now.Sub(b.at) >= briefFor {
		status := p.reg.Status()
		d := Document{Version: Version, At: now, Overall: overallOf(&status, p.reg.Health().Report())}
		d.Overall.Reason, d.Overall.Advice = "", ""
		b.at, b.json, b.page = now, encode(&d), p.look.brief(&d)
	}
	return briefView{b.json, b.page}
}

// encode writes d as JSON.
func encode(d *Document) []byte {
	out, err := json.Marshal(d)
	if err != nil { // a time beyond the year 9999, which a component made up
		out, _ = json.Marshal(struct { // of an int and a string
			Version int    `json:"version"`
			Error   string `json:"error"`
		}{Version, "the document cannot be written: " + err.Error()})
	}
	return append(out, '\n')
}
