// Command service is what the suite sends SIGTERM to: an HTTP server, event streams and workers over
// a Redis, a PostgreSQL and a MariaDB pool.
//
//	POST /orders/{id}   writes the order to PostgreSQL, its outbox line to MariaDB, and counts it in Redis
//	GET  /events        server-sent events, one for each order
//	GET  /readyz        readiness
//
// It takes the addresses of its servers from REDIS_URL, POSTGRES_URL and MYSQL_DSN, and writes the
// address that it listens on to standard output. It exits with 0 after a shutdown in which nothing was
// lost, and with 1 otherwise. It is for tests only.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/streams"
)

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err := run(context.Background(), os.Stdout); err != nil { //nolint:forbidigo // a program
		slog.Error("the service has failed", "error", err)
		os.Exit(1)
	}
}

// service is its parts.
type service struct {
	redis    *redispool.Pool
	postgres *sqlpool.Postgres
	mysql    *sqlpool.MySQL
	events   *streams.Hub
	jobs     chan string // orders whose outbox line is to be sent
}

// run is the service, until SIGTERM. It writes its address to out.
func run(ctx context.Context, out io.Writer) error {
	s, err := newService()
	if err != nil {
		return err
	}
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: 6 * time.Second, DrainDelay: 300 * time.Millisecond})
	server := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: s.routes(reg), ReadHeaderTimeout: 5 * time.Second})
	reg.Add("redis", s.redis)
	reg.Add("postgres", s.postgres)
	reg.Add("mysql", s.mysql)
	reg.Go("outbox", s.send, lifecycle.WithDependencies("mysql", "redis"))
	reg.Add("api", server, lifecycle.WithDependencies("redis", "postgres", "mysql", "outbox"))
	reg.Add("events", s.events, lifecycle.WithDependencies("api")) // it drains before the server
	reg.Go("address", func(context.Context) error {
		_, err := fmt.Fprintln(out, "http://"+server.Addr().String())
		return err
	}, lifecycle.WithDependencies("events"))
	return reg.Run(ctx)
}

func newService() (*service, error) {
	s := &service{jobs: make(chan string, 100)}
	var err error
	if s.redis, err = redispool.New(redispool.Config{URL: os.Getenv("REDIS_URL"), MaxOpen: 10}); err != nil {
		return nil, err
	}
	if s.postgres, err = sqlpool.NewPostgres(sqlpool.PostgresConfig{URL: os.Getenv("POSTGRES_URL"), MaxOpen: 10}); err != nil {
		return nil, err
	}
	if s.mysql, err = sqlpool.NewMySQL(sqlpool.MySQLConfig{URL: os.Getenv("MYSQL_DSN"), MaxOpen: 10}); err != nil {
		return nil, err
	}
	s.events, err = streams.New(streams.Config{DrainSpread: 200 * time.Millisecond})
	return s, err
}

func (s *service) routes(reg *lifecycle.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /readyz", health.Handler(reg.Health()))
	mux.HandleFunc("POST /orders/{id}", s.order)
	mux.Handle("GET /events", s.events.SSE(func(_ context.Context, st *streams.Stream) error { return st.Follow("orders") }))
	return mux
}

// order writes an order. It has answered 200 only if all three servers have it.
func (s *service) order(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if _, err := s.postgres.Pool().Exec(r.Context(), "insert into orders values ($1)", id); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if err := s.redis.Client().SAdd(r.Context(), "orders", id).Err(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_ = s.events.Broadcast("orders", streams.Event{Data: []byte(id)}) // during a shutdown nobody hears it
	select {
	case s.jobs <- id:
		_, _ = fmt.Fprintln(w, "accepted")
	case <-r.Context().Done():
		http.Error(w, "busy", http.StatusServiceUnavailable)
	}
}

// send is the worker: it writes the outbox lines of the orders. What was accepted before the shutdown
// is written before it ends.
func (s *service) send(ctx context.Context) error {
	write := func(id string) error {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		_, err := s.mysql.DB().ExecContext(bounded, "insert into outbox values (?)", id)
		return err
	}
	for {
		select {
		case id := <-s.jobs:
			if err := write(id); err != nil {
				return err
			}
		case <-ctx.Done():
			for len(s.jobs) > 0 {
				if err := write(<-s.jobs); err != nil {
					return err
				}
			}
			return nil
		}
	}
}
