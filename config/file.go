package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

// File is a file that was loaded: the pools and clients that it declares, made and not yet started.
// All its methods are safe for concurrent use.
type File struct {
	path string
	load loading

	mu       sync.Mutex // guards the following
	now      *content   // in effect; it is replaced, and never changed
	handlers map[string]http.Handler
	reg      *lifecycle.Registry // since AddTo
}

// Load reads a file and makes every pool and client that it declares. It dials nothing. The error
// joins every fault of the file, in its order, each with line, column, value and what is allowed;
// nothing is then left to close. Otherwise call AddTo, whose registry owns the pools from then on,
// or Abort.
func Load(path string, opts ...Option) (*File, error) {
	f := &File{path: path, handlers: map[string]http.Handler{}}
	for _, o := range opts {
		o(&f.load)
	}
	c, err := read(path, f.load)
	if err != nil {
		return nil, err
	}
	f.now = c
	return f, nil
}

// content returns the content in effect.
func (f *File) content() *content {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// AddTo adds every pool, client and server of the file to a registry, under its name, with the
// dependencies and the health check that the file says. It fails, and adds nothing, if a server has
// no handler, or a handler no server, or if it was called before.
func (f *File) AddTo(reg *lifecycle.Registry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reg != nil {
		return fmt.Errorf("config: %s: AddTo was called before; load the file again for another registry", f.path)
	}
	var errs []error
	for _, s := range f.now.servers {
		if f.handlers[s.name] == nil {
			errs = append(errs, fmt.Errorf("config: %s: server %q has no handler; call Serve before AddTo", f.path, s.name))
		}
	}
	for name := range f.handlers {
		if !slices.ContainsFunc(f.now.servers, func(s namedServer) bool { return s.name == name }) {
			errs = append(errs, fmt.Errorf("config: %s: Serve was called for the server %q, which the file does not declare", f.path, name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	f.reg = reg
	for _, e := range f.now.entries {
		opts := []lifecycle.Option{lifecycle.WithDependencies(e.depends...)}
		if e.impact != health.ImpactCritical {
			opts = append(opts, lifecycle.WithHealthCheck(health.Check{Impact: e.impact}))
		}
		reg.Add(e.name, e.comp, opts...)
	}
	for _, s := range f.now.servers {
		opts := []lifecycle.Option{lifecycle.WithDependencies(s.depends...)}
		if s.Ops {
			opts = append(opts, lifecycle.WithOps())
		}
		reg.Add(s.name, s.component(f.handlers[s.name]), opts...)
	}
	return nil
}

// Serve gives the handler of a server that the file declares. Call it before AddTo.
func (f *File) Serve(name string, h http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handlers[name] = h
}

// Lifecycle returns the settings of the sections lifecycle and health, for [lifecycle.New]. The caller
// may set Logger and the other fields that only code can set.
func (f *File) Lifecycle() lifecycle.Config { return f.content().lifecycle }

// Abort closes every pool and client of a file that was not added to a registry.
func (f *File) Abort() error { return f.content().abort() }

// Redis returns the pool of that name in the section redis.
func (f *File) Redis(name string) (*redispool.Pool, error) {
	return handle[*redispool.Pool](f, "redis", name)
}

// Postgres returns the pool of that name in the section postgres.
func (f *File) Postgres(name string) (*sqlpool.Postgres, error) {
	return handle[*sqlpool.Postgres](f, "postgres", name)
}

// MySQL returns the pool of that name in the section mysql.
func (f *File) MySQL(name string) (*sqlpool.MySQL, error) {
	return handle[*sqlpool.MySQL](f, "mysql", name)
}

// ReplicatedPostgres returns the pools of that name in the section replicated_postgres.
func (f *File) ReplicatedPostgres(name string) (*replica.Postgres, error) {
	return handle[*replica.Postgres](f, "replicated_postgres", name)
}

// ReplicatedMySQL returns the pools of that name in the section replicated_mysql.
func (f *File) ReplicatedMySQL(name string) (*replica.MySQL, error) {
	return handle[*replica.MySQL](f, "replicated_mysql", name)
}

// HTTP returns the client of that name in the section http.
func (f *File) HTTP(name string) (*httpclient.Client, error) {
	return handle[*httpclient.Client](f, "http", name)
}

// handle returns the component of that name in a section. Its error lists the names that the section
// has.
func handle[P component](f *File, section, name string) (P, error) {
	var known []string
	for _, e := range f.content().entries {
		if e.kind.section == section {
			if e.name == name {
				return as[P](e.comp), nil
			}
			known = append(known, e.name)
		}
	}
	var none P
	return none, fmt.Errorf("config: %s: the section %s has no %q; it has %s%s", f.path, section, name, listed(known), suggestion(name, known))
}

func listed(names []string) string {
	return cmp.Or(strings.Join(names, ", "), "none")
}

// describe returns the file's name and what it declares.
func (f *File) describe() string {
	entries := f.content().entries
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.kind.section+"."+e.name)
	}
	return fmt.Sprintf("config.File{%q: %s}", f.path, listed(names))
}

// Format prints the file's name and what it declares, whatever the verb: the values may be secrets.
func (f *File) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, f.describe()) } // where it goes cannot fail

// Option changes what [Load] does.
type Option func(*loading)

// loading holds the options of [Load].
type loading struct {
	environment string
	offline     bool
	logger      *slog.Logger
	adjust      []func(name string, cfg reflect.Value)
}

// Environment puts the environment of that name over the rest of the file. An empty name puts none.
func Environment(name string) Option { return func(l *loading) { l.environment = name } }

// Offline makes Load read no references, certificates or credentials. So a file can be checked where
// its secrets are not. The pools cannot be used.
func Offline() Option { return func(l *loading) { l.offline = true } }

// Logger is the Logger of every pool and client, and of [Watch]. Default: slog.Default().
func Logger(log *slog.Logger) Option { return func(l *loading) { l.logger = log } }

// configuration lists the types that a file can declare.
type configuration interface {
	redispool.Config | sqlpool.PostgresConfig | sqlpool.MySQLConfig | replica.PostgresConfig | replica.MySQLConfig | httpclient.Config
}

// With calls set for the configuration of that name, to set the fields that a file cannot: TLS,
// Credentials, Authorize, Configure. set is called again whenever the file is read. A reload keeps
// the functions and pointers of the first call.
func With[C configuration](name string, set func(*C)) Option {
	return func(l *loading) {
		l.adjust = append(l.adjust, func(of string, cfg reflect.Value) {
			if c, ok := reflect.TypeAssert[*C](cfg.Addr()); ok && of == name {
				set(c)
			}
		})
	}
}

// Environments returns the names of all environments of a file, in its order. It fails only if the
// file cannot be read, or its syntax is wrong.
func Environments(path string) ([]string, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	into := &faults{file: path}
	root := parse(text, into)
	if root == nil {
		return nil, into.err()
	}
	return environmentsOf(root), nil
}

// readFile reads a file of connections. Its errors name the file once.
func readFile(path string) ([]byte, error) {
	text, err := readBounded(path, maxFile)
	if err != nil {
		if p, ok := errors.AsType[*os.PathError](err); ok {
			err = p.Err
		}
		return nil, fmt.Errorf("config: %s cannot be read: %w", path, err)
	}
	return text, nil
}
