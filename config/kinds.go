package config

import (
	"context"
	"reflect"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/httpclient"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

// component is a pool or a client.
type component interface {
	lifecycle.Component
	lifecycle.Aborter
	lifecycle.StatsProvider
}

// pool is a component that is reloaded by a configuration C.
type pool[C any] interface {
	component
	Plan(cfg C) ([]poolkeeper.Change, error)
	Reload(ctx context.Context, cfg C) error
}

// kind is what a section of the file declares. Configurations are values of its type.
type kind struct {
	section string
	pkg     string // begins its errors
	config  reflect.Type
	impact  health.Impact // of its check, unless the file says another
	offline string        // stands for a URL that is not resolved

	validate func(cfg any) error
	make     func(cfg any) (component, error)
	plan     func(c component, cfg any) ([]poolkeeper.Change, error)
	reload   func(ctx context.Context, c component, cfg any) error
}

func kindOf[C interface{ Validate() error }, P pool[C]](section, pkg, offline string, open func(C) (P, error)) *kind {
	return &kind{
		section: section, pkg: pkg, offline: offline, config: reflect.TypeFor[C](),
		validate: func(cfg any) error { return as[C](cfg).Validate() },
		make: func(cfg any) (component, error) {
			p, err := open(as[C](cfg))
			if err != nil {
				return nil, err
			}
			return p, nil
		},
		plan:   func(c component, cfg any) ([]poolkeeper.Change, error) { return as[P](c).Plan(as[C](cfg)) },
		reload: func(ctx context.Context, c component, cfg any) error { return as[P](c).Reload(ctx, as[C](cfg)) },
	}
}

// as returns v as a T, which it is.
func as[T any](v any) T {
	t, _ := v.(T)
	return t
}

// kinds returns what a file can declare, by the order of the docs.
func kinds() []*kind {
	clients := kindOf("http", "httpclient", "http://localhost", httpclient.New)
	clients.impact = health.ImpactDegrading
	return []*kind{
		kindOf("redis", "redispool", "redis://localhost", redispool.New),
		kindOf("postgres", "sqlpool", "postgres://localhost/db", sqlpool.NewPostgres),
		kindOf("mysql", "sqlpool", "mysql://localhost/db", sqlpool.NewMySQL),
		kindOf("replicated_postgres", "replica", "postgres://localhost/db", replica.NewPostgres),
		kindOf("replicated_mysql", "replica", "mysql://localhost/db", replica.NewMySQL),
		clients,
	}
}
