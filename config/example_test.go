package config_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/config"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// file writes a file of connections, for the examples.
func file(text string) (path string, remove func()) {
	dir, err := os.MkdirTemp("", "config")
	if err != nil {
		panic(err)
	}
	path = filepath.Join(dir, "service.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		panic(err)
	}
	return path, func() { _ = os.RemoveAll(dir) }
}

func ExampleLoad() {
	path, remove := file(`
redis:
  cache: {url: "redis://cache", max_open: 20, max_open_ceiling: 50}
http:
  billing: {base_url: "https://billing.internal", class: short, depends_on: [cache]}
servers:
  api: {addr: ":8080", depends_on: [billing]}
environments:
  prod:
    redis: {cache: {max_open: 50}}
`)
	defer remove()
	f, err := config.Load(path, config.Environment("prod"))
	if err != nil {
		fmt.Println(err)
		return
	}
	cache, err := f.Redis("cache")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("places of cache:", cache.Stats().Max)
	f.Serve("api", http.NotFoundHandler())
	reg := lifecycle.New(f.Lifecycle())
	if err := f.AddTo(reg); err != nil {
		fmt.Println(err)
		return
	}
	reg.Add("config", config.Watch(f, config.Every(5*time.Second), config.Soak(30*time.Second), config.Stage(10)))
	fmt.Println("faults of the graph:", reg.Validate())
	_ = f.Abort() // a service calls reg.Run instead
	// Output:
	// places of cache: 50
	// faults of the graph: <nil>
}

func ExampleLoad_faults() {
	path, remove := file(`redis:
  cache:
    url: redis://app:sesame@cache
    max_opne: 20
    max_idle_time: 30
`)
	defer remove()
	_, err := config.Load(path)
	fmt.Println(strings.ReplaceAll(err.Error(), path, "service.yaml"))
	// Output:
	// config: service.yaml:3:10: redis.cache.url holds a password; the file must not: write {env: NAME} or {file: PATH} instead, or use credentials_file
	// config: service.yaml:4:5: redis.cache.max_opne is not a key; did you mean max_open?
	// config: service.yaml:5:20: redis.cache.max_idle_time is "30"; it must be a duration such as 1m30s, or off
}
