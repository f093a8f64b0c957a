package statuspage

import (
	"fmt"
	"html/template"
	"net/http"
	"path"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// Defaults and bounds of profiles that take time.
const (
	profileSeconds = 30
	traceSeconds   = 1
	longestProfile = 300 // seconds
)

// Profiles returns a handler with the URLs of net/http/pprof, so that go tool pprof and go tool
// trace can read from it. allow decides about each request; nil, false and a panic deny.
//
//	mux.Handle("/debug/pprof/", statuspage.Profiles(isOperator))
//
// It serves every profile of runtime/pprof (goroutine, heap, allocs, block, mutex, threadcreate and
// those of your own, with ?debug=1 and 2 as text, and ?gc=1 for heap), profile?seconds=30 and
// trace?seconds=1. Of two CPU profiles at once the second is refused with 409; a drain of the
// lifecycle.Server ends one early.
//
// It registers nothing on http.DefaultServeMux, unlike an import of net/http/pprof. It leaves out
// cmdline, because arguments can hold secrets, and symbol, which Go programs do not need. It has no
// ?seconds= for profiles that are counters: take two, and compare them with go tool pprof -diff_base.
func Profiles(allow func(*http.Request) bool) http.Handler {
	cpu := lifecycle.Stream(http.HandlerFunc(serveCPU))
	traces := lifecycle.Stream(http.HandlerFunc(serveTrace))
	return readOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allows(allow, r) {
			deny(w)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/") || r.URL.Path == "" {
			serveProfileIndex(w, r)
			return
		}
		switch name := path.Base(r.URL.Path); name {
		case "pprof": // the handler's own path without its slash
			addSlash(w, r)
		case "profile":
			cpu.ServeHTTP(w, r)
		case "trace":
			traces.ServeHTTP(w, r)
		default:
			serveProfile(w, r, name)
		}
	}))
}

func serveProfileIndex(w http.ResponseWriter, r *http.Request) {
	var b strings.Builder
	b.WriteString(`<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Profiles</title>` +
		`<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"></head>` +
		`<body><main><h1>Profiles</h1><ul>`)
	all := pprof.Profiles()
	slices.SortFunc(all, func(a, b *pprof.Profile) int { return strings.Compare(a.Name(), b.Name()) })
	for _, p := range all {
		name := p.Name()
		fmt.Fprintf(&b, `<li><a href="%s?debug=1">%s</a>: %d</li>`,
			template.HTMLEscapeString(template.URLQueryEscaper(name)), template.HTMLEscapeString(name), p.Count())
	}
	fmt.Fprintf(&b, `<li><a href="goroutine?debug=2">goroutine, every stack</a></li>`+
		`<li><a href="profile">profile</a>: CPU for %d s, or ?seconds=</li>`+
		`<li><a href="trace">trace</a>: execution for %d s, or ?seconds=</li></ul></main></body></html>`,
		profileSeconds, traceSeconds)
	writeBody(w, r, "text/html; charset=utf-8", []byte(b.String()))
}

func serveProfile(w http.ResponseWriter, r *http.Request, name string) {
	p := pprof.Lookup(name)
	switch {
	case p == nil:
		http.Error(w, "statuspage: no such profile", http.StatusNotFound)
		return
	case r.FormValue("seconds") != "":
		http.Error(w, "statuspage: "+name+" has no seconds: take two and compare them with go tool pprof -diff_base", http.StatusBadRequest)
		return
	}
	debug, _ := strconv.Atoi(r.FormValue("debug")) // what is no number is 0, as in net/http/pprof
	if debug > 0 {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	} else {
		attach(w, name)
	}
	if r.Method == http.MethodHead {
		return
	}
	if gc, _ := strconv.Atoi(r.FormValue("gc")); name == "heap" && gc > 0 {
		runtime.GC()
	}
	_ = p.WriteTo(w, debug) // a reader that has gone needs no profile
}

func attach(w http.ResponseWriter, name string) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
}

func serveCPU(w http.ResponseWriter, r *http.Request) {
	during(w, r, "profile", profileSeconds, func() (func(), error) { return pprof.StopCPUProfile, pprof.StartCPUProfile(w) })
}

func serveTrace(w http.ResponseWriter, r *http.Request) {
	during(w, r, "trace", traceSeconds, func() (func(), error) { return trace.Stop, trace.Start(w) })
}

// during records for the seconds that r asks for, or until its context ends.
func during(w http.ResponseWriter, r *http.Request, name string, usual float64, start func() (stop func(), err error)) {
	length := usual
	if s := r.FormValue("seconds"); s != "" {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n > 0 && n <= longestProfile) { // NaN is no number of seconds either
			http.Error(w, fmt.Sprintf("statuspage: seconds must be above 0 and at most %d", longestProfile), http.StatusBadRequest)
			return
		}
		length = n
	}
	attach(w, name)
	if r.Method == http.MethodHead {
		return
	}
	wait := time.Duration(length * float64(time.Second))
	// The server's WriteTimeout would cut it off.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + writeTimeout))
	stop, err := start()
	if err != nil {
		w.Header().Del("Content-Disposition")
		http.Error(w, "statuspage: "+name+": another profile is under way: "+err.Error(), http.StatusConflict)
		return
	}
	defer stop()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}
