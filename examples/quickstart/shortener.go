package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	cacheTTL    = 10 * time.Minute
	codeLength  = 7
	flushEvery  = 200 * time.Millisecond
	flushAt     = 100  // visits
	keepAtMost  = 1000 // visits held back while the database is away; then the queue fills, and requests wait
	flushBudget = 5 * time.Second
	longestSlow = 2 * shutdownTimeout // long enough to overrun the budget of a shutdown
)

// shortener is the service: links in SQL, read through Redis; visits written behind, in batches.
// It knows the native handles only, nothing of poolkeeper.
type shortener struct {
	cache  redis.UniversalClient
	links  linkStore
	visits visitStore
	queue  chan visit
	log    *slog.Logger
}

func newShortener(cache redis.UniversalClient, links linkStore, visits visitStore, log *slog.Logger) *shortener {
	return &shortener{cache: cache, links: links, visits: visits, queue: make(chan visit, 1024), log: log}
}

func (s *shortener) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /links", s.create)
	mux.HandleFunc("GET /links/{code}", s.show)
	mux.HandleFunc("GET /slow", s.slow)
	mux.HandleFunc("GET /{code}", s.follow)
	return mux
}

// migrate creates the tables.
func (s *shortener) migrate(ctx context.Context) error {
	return errors.Join(s.links.migrate(ctx), s.visits.migrate(ctx))
}

// create stores the form value "url" and answers with the short address.
func (s *shortener) create(w http.ResponseWriter, r *http.Request) {
	target, err := url.Parse(strings.TrimSpace(r.FormValue("url")))
	if err != nil || target.Host == "" || (target.Scheme != "http" && target.Scheme != "https") {
		http.Error(w, "url: want an http or https address, as in -d url=https://go.dev", http.StatusBadRequest)
		return
	}
	code := strings.ToLower(rand.Text()[:codeLength])
	if err := s.links.add(r.Context(), code, target.String()); err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, "http://%s/%s\n", r.Host, code)
}

// follow redirects. The header X-Cache says whether Redis knew the link.
func (s *shortener) follow(w http.ResponseWriter, r *http.Request) {
	code := r.PathValue("code")
	target, hit, err := s.lookup(r.Context(), code)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		http.NotFound(w, r)
		return
	case err != nil:
		s.fail(w, r, err)
		return
	}
	if err := s.count(r.Context(), code); err != nil {
		s.log.Warn("visit not recorded", "code", code, "error", err)
	}
	w.Header().Set("X-Cache", map[bool]string{true: "hit", false: "miss"}[hit])
	http.Redirect(w, r, target, http.StatusFound)
}

// lookup is the cache-aside read. Redis is a help, not a need: when it fails, SQL answers.
func (s *shortener) lookup(ctx context.Context, code string) (target string, hit bool, err error) {
	key := "link:" + code
	target, err = s.cache.Get(ctx, key).Result()
	if err == nil {
		return target, true, nil
	}
	if !errors.Is(err, redis.Nil) {
		s.log.Warn("cache read failed", "error", err)
	}
	if target, err = s.links.target(ctx, code); err != nil {
		return "", false, err
	}
	if err := s.cache.Set(ctx, key, target, cacheTTL).Err(); err != nil {
		s.log.Warn("cache write failed", "error", err)
	}
	return target, false, nil
}

// show tells how often a link was followed.
func (s *shortener) show(w http.ResponseWriter, r *http.Request) {
	code := r.PathValue("code")
	target, _, err := s.lookup(r.Context(), code)
	if errors.Is(err, sql.ErrNoRows) {
		http.NotFound(w, r)
		return
	}
	visits := 0
	if err == nil {
		visits, err = s.visits.count(r.Context(), code)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "url": target, "visits": visits})
}

// slow holds a request open, to see what becomes of it in a shutdown.
func (s *shortener) slow(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.FormValue("for"))
	if err != nil || d < 0 || d > longestSlow {
		http.Error(w, "for: want a duration up to "+longestSlow.String()+", as in /slow?for=3s", http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintln(w, "started")
	_ = http.NewResponseController(w).Flush() // a writer that cannot only says it later
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
		return
	}
	// The pools are still there, even if the shutdown began long ago: that is the point.
	if err := errors.Join(s.cache.Ping(r.Context()).Err(), s.links.db.PingContext(r.Context())); err != nil {
		s.log.Error("pool closed under a request", "error", err)
		_, _ = fmt.Fprintln(w, "failed: a pool was closed under this request")
		return
	}
	_, _ = fmt.Fprintf(w, "done after %v, Redis and SQL still at hand\n", d)
}

func (s *shortener) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	http.Error(w, "something went wrong here", http.StatusInternalServerError)
}

// count queues a visit for record. When the queue is full the request waits rather than lose it.
func (s *shortener) count(ctx context.Context, code string) error {
	select {
	case s.queue <- visit{code, time.Now()}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// record writes queued visits in batches until ctx ends, and then what is left. The HTTP server
// depends on it, so it ends after the last request, and the database it depends on is still open:
// nothing is lost.
func (s *shortener) record(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var batch []visit
	for {
		queue := s.queue
		if len(batch) >= keepAtMost {
			queue = nil
		}
		select {
		case v := <-queue:
			if batch = append(batch, v); len(batch) >= flushAt {
				batch = s.flush(ctx, batch)
			}
		case <-tick.C:
			batch = s.flush(ctx, batch)
		case <-ctx.Done():
			return s.flushRest(ctx, batch)
		}
	}
}

// flush writes the batch and returns what is still to be written: all of it, to be tried again, if
// that failed.
func (s *shortener) flush(ctx context.Context, batch []visit) []visit {
	if len(batch) == 0 {
		return batch
	}
	if err := s.visits.add(ctx, batch); err != nil {
		s.log.Warn("visits not written yet", "visits", len(batch), "error", err)
		return batch
	}
	return batch[:0]
}

func (s *shortener) flushRest(ctx context.Context, batch []visit) error {
	for {
		select {
		case v := <-s.queue:
			batch = append(batch, v)
			continue
		default:
		}
		break
	}
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushBudget)
	defer cancel()
	if err := s.visits.add(ctx, batch); err != nil {
		return fmt.Errorf("%d visits lost: %w", len(batch), err)
	}
	return nil
}
