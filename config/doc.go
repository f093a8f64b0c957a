// Package config reads the connections of a service from one YAML file, and reloads them in stages.
//
//	service.yaml ──▶ Load ──▶ File ──AddTo──▶ lifecycle.Registry: pools, clients, servers
//	     │           all faults: line, column     ▲
//	     │                     │                  │ Reload, pool by pool; all back if it gets worse
//	     └── changed ──▶ Watch: plan ─▶ stage ─▶ try ─▶ soak ─▶ keep, or roll back
//
// A key is the environment variable of the package's FromEnv without its prefix, in lower case:
// MaxIdleTime is max_idle_time, TLSFiles.CA is tls_files_ca. Values have the same text forms.
// docs/config.md lists all keys.
//
//	redis:
//	  cache: {url: "redis://cache:6379/0", max_open: 20, max_open_ceiling: 50}
//	postgres:
//	  orders:
//	    url: {env: ORDERS_URL}
//	    max_idle_time: 1m30s
//	    depends_on: [cache]
//	http:
//	  billing: {base_url: "https://billing.internal", class: short}
//	environments:
//	  prod:
//	    redis: {cache: {max_open: 50}}
//
// A program loads it, asks for its handles, and adds everything to its registry:
//
//	f, err := config.Load("service.yaml", config.Environment("prod"))
//	orders, err := f.Postgres("orders")
//	reg := lifecycle.New(f.Lifecycle())
//	err = f.AddTo(reg)
//	reg.Add("config", config.Watch(f, config.Every(5*time.Second), config.Soak(30*time.Second)))
//
// The package refuses to hold secrets: a password in the file is a fault, and a reference to an
// environment variable or a file takes its place. It refuses anchors, aliases, merge keys and tags,
// so that all settings of a pool stand in one place. It does not add or remove pools while the
// service runs, fetch files from elsewhere, template them, or coordinate instances: each one
// watches its own file.
package config
