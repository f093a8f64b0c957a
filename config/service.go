package config

import (
	"net/http"
	"reflect"
	"time"

	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// Sections that are no connections.
const (
	serversKey   = "servers"
	lifecycleKey = "lifecycle"
	healthKey    = "health"
)

// server declares an HTTP server. Its fields are those of http.Server.
type server struct {
	// Addr is where it listens, such as ":8080".
	Addr string
	// CertFile and KeyFile make it speak TLS.
	CertFile, KeyFile string
	// The limits of http.Server.
	ReadHeaderTimeout, ReadTimeout, WriteTimeout, IdleTimeout time.Duration
	// MaxHeaderBytes bounds a request's header.
	MaxHeaderBytes int
	// Ops marks a server that watches the service: it starts first and stops last.
	Ops bool
}

// component returns the server with a handler.
func (s server) component(h http.Handler) *lifecycle.Server {
	srv := &http.Server{
		Addr: s.Addr, Handler: h, ReadHeaderTimeout: s.ReadHeaderTimeout, ReadTimeout: s.ReadTimeout,
		WriteTimeout: s.WriteTimeout, IdleTimeout: s.IdleTimeout, MaxHeaderBytes: s.MaxHeaderBytes,
	}
	if srv.ReadHeaderTimeout == 0 {
		srv.ReadHeaderTimeout = lifecycle.DefaultReadHeaderTimeout // also beside a ReadTimeout, which is for whole requests
	}
	if s.CertFile == "" {
		return lifecycle.HTTPServer(srv)
	}
	return lifecycle.HTTPServer(srv, lifecycle.WithCertFiles(s.CertFile, s.KeyFile))
}

// decodeServer reads one server.
func (d *decoder) decodeServer(n *node) server {
	var s server
	d.fill(reflect.ValueOf(&s).Elem(), n, true, dependsKey)
	if s.Addr == "" && n.shape != scalar && n.shape != list {
		d.add(n.at, `%s has no addr; it must be like ":8080"`, n.path)
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		d.add(n.at, "%s needs cert_file and key_file both, or neither", n.path)
	}
	if s.MaxHeaderBytes < 0 {
		d.add(n.get("max_header_bytes").at, "%s.max_header_bytes is %d; it must not be negative", n.path, s.MaxHeaderBytes)
	}
	return s
}

// decodeLifecycle reads what the registry and its health checks are set to.
func (d *decoder) decodeLifecycle(root *node) lifecycle.Config {
	var c lifecycle.Config
	if n := root.get(lifecycleKey); n != nil {
		if own := n.get(healthKey); own != nil {
			d.add(own.at, "%s.health is not a key; health is a section of its own", lifecycleKey)
			n = without(n, healthKey)
		}
		d.fill(reflect.ValueOf(&c).Elem(), n, true)
		d.refuse(n, reflect.TypeOf(c), "lifecycle: Config.", c.Validate())
	}
	if n := root.get(healthKey); n != nil {
		d.fill(reflect.ValueOf(&c.Health).Elem(), n, true)
		d.refuse(n, reflect.TypeOf(c.Health), "health: config: ", c.Health.Validate())
	}
	return c
}

// without returns n without one key.
func without(n *node, name string) *node {
	out := *n
	out.fields = nil
	for _, f := range n.fields {
		if f.name != name {
			out.fields = append(out.fields, f)
		}
	}
	return &out
}
