package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// roleEnv makes the test binary the program.
const roleEnv = "ORDERS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		main()
		return
	}
	redis.SetLogger(redispool.GoRedisLogger(slog.New(slog.DiscardHandler)))
	goleak.VerifyTestMain(testserver.Main(m))
}

// container is a pod of an overlay on this machine: its directories under a root of the test, its
// ports free ones, its servers real ones with the limits that the overlay names.
type container struct {
	stack    *stack
	root     string
	versions int
	ports    map[string]string // addresses, by the port in the manifest
	http     *http.Client
	log      *testkit.Log
	cmd      *exec.Cmd
}

func newContainer(t *testing.T, environment string) *container {
	t.Helper()
	c := &container{
		stack: objectsOf(environment, render(t, environment)), root: t.TempDir(), ports: map[string]string{},
		log: &testkit.Log{}, http: &http.Client{Timeout: 5 * time.Second},
	}
	t.Cleanup(c.http.CloseIdleConnections)
	for _, p := range c.stack.container().Ports {
		c.ports[p.Name] = testkit.FreeAddr(t)
	}
	granted := func(server string) int {
		n, err := strconv.Atoi(c.stack.scalers[0].Annotations["example.com/"+server+"-connections"])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const superusers, files = 3, 32 // which the servers keep for themselves
	cache := testserver.Redis(t, "--requirepass", "cache-password", "--maxclients", strconv.Itoa(granted("redis")+files))
	orders := testserver.Postgres(t, fmt.Sprintf("max_connections=%d", granted("postgres")+superusers))
	c.mount(t, "secrets", map[string]string{
		"cache-url": cache.URL(), "cache-credentials": "cache-password\n",
		"orders-url": orders.URL(), "orders-credentials": "orders-password\n",
	})
	c.mount(t, "config", c.stack.configMaps[0].Data)
	return c
}

// mount writes a directory as the kubelet does, and again when its object has changed:
//
//	service.yaml → ..data/service.yaml, ..data → ..1, and ..1/service.yaml
func (c *container) mount(t *testing.T, name string, files map[string]string) {
	t.Helper()
	c.versions++
	dir, own := filepath.Join(c.root, "etc/orders", name), fmt.Sprintf("..%d", c.versions)
	errs := []error{os.MkdirAll(filepath.Join(dir, own), 0o700)}
	for file, text := range files {
		errs = append(errs, os.WriteFile(filepath.Join(dir, own, file), []byte(c.local(text)), 0o600))
		if _, err := os.Lstat(filepath.Join(dir, file)); err != nil {
			errs = append(errs, os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file)))
		}
	}
	next := filepath.Join(dir, "..data_tmp")
	errs = append(errs, os.Symlink(own, next), os.Rename(next, filepath.Join(dir, "..data")))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// local is a text of the manifests with this machine's paths and addresses.
func (c *container) local(text string) string {
	text = strings.ReplaceAll(text, "/etc/orders", filepath.Join(c.root, "etc/orders"))
	for _, p := range c.stack.container().Ports {
		text = strings.ReplaceAll(text, fmt.Sprintf(`":%d"`, p.ContainerPort), strconv.Quote(c.ports[p.Name]))
	}
	return text
}

// start runs the program with the container's arguments. Changes are watched for less than minutes.
func (c *container) start(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, a := range c.stack.arguments() {
		args = append(args, c.local(a))
	}
	c.cmd = exec.CommandContext(t.Context(), self, append(args, "-every=50ms", "-soak=500ms", "-stage=100")...)
	c.cmd.Env = append(os.Environ(), roleEnv+"=1")
	c.cmd.Stderr = c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // it has ended, if all went well
		if t.Failed() {
			t.Log(c.log.String())
		}
	})
}

// get asks a port of the container. Status 0: it does not answer.
func (c *container) get(ctx context.Context, port, path string) (status int, body string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.ports[port]+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// number returns a metric of the container, or -1.
func (c *container) number(ctx context.Context, series string) float64 {
	_, page := c.get(ctx, "ops", c.stack.monitors[0].Spec.PodMetricsEndpoints[0].Path)
	for line := range strings.Lines(page) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), series+" "); ok {
			if n, err := strconv.ParseFloat(text, 64); err == nil {
				return n
			}
		}
	}
	return -1
}

// The program runs as in a pod of each overlay: it is found by its probes, reloads its mounted file,
// and drains at SIGTERM.
func TestProgramRunsWithTheFilesOfEachOverlay(t *testing.T) {
	testkit.Slow(t)
	t.Parallel()
	for _, environment := range environments() {
		t.Run(environment, func(t *testing.T) {
			t.Parallel()
			c := newContainer(t, environment)
			c.start(t)
			c.probed(t)
			c.measured(t)
			c.reloaded(t)
			c.drained(t)
		})
	}
}

func (c *container) probed(t *testing.T) {
	t.Helper()
	for name, p := range c.stack.probes() {
		port := p.HTTPGet.Port.String()
		testkit.Eventually(t, "the "+name+" probe succeeds", func() bool {
			status, _ := c.get(t.Context(), port, p.HTTPGet.Path)
			return status == http.StatusOK
		})
		if status, _ := c.get(t.Context(), port, p.HTTPGet.Path+"-"); status != http.StatusNotFound {
			t.Errorf("the port %s answers every path: %d", port, status)
		}
	}
	if status, body := c.get(t.Context(), "http", "/orders"); status != http.StatusOK || body != "7\n" {
		t.Errorf("GET /orders: %d %q", status, body)
	}
	if status, _ := c.get(t.Context(), "http", "/metrics"); status != http.StatusNotFound {
		t.Errorf("the port http serves metrics: %d", status)
	}
	if status, _ := c.get(t.Context(), "ops", "/status/"); status != http.StatusOK {
		t.Errorf("GET /status/: %d", status)
	}
}

// measured checks that the metrics of all queries are there, and that the servers say that all
// replicas fit.
func (c *container) measured(t *testing.T) {
	t.Helper()
	for _, pool := range []string{"cache", "orders"} {
		of := `{db_client_connection_pool_name="` + pool + `"}`
		testkit.Eventually(t, "the limits of "+pool+" are known", func() bool {
			return c.number(t.Context(), "poolkeeper_fleet_limit"+of) > 0
		})
		demand, limit := c.number(t.Context(), "poolkeeper_fleet_demand"+of), c.number(t.Context(), "poolkeeper_fleet_limit"+of)
		if warnings := c.number(t.Context(), "poolkeeper_fleet_warnings"+of); demand > limit || warnings != 0 {
			t.Errorf("%s: all instances may open %v of %v connections, with %v warnings", pool, demand, limit, warnings)
		}
	}
	_, page := c.get(t.Context(), "ops", "/metrics")
	for _, template := range c.stack.templates {
		for _, m := range template.Spec.Metrics {
			for _, name := range regexp.MustCompile(`\b(db_client|poolkeeper)_\w+\{`).FindAllString(m.Provider.Prometheus.Query, -1) {
				if !strings.Contains(page, name) {
					t.Errorf("the query %s has no data: the program has no %s", m.Name, name)
				}
			}
		}
	}
}

// reloaded changes the ConfigMap.
func (c *container) reloaded(t *testing.T) {
	t.Helper()
	changed := map[string]string{}
	for file, text := range c.stack.configMaps[0].Data {
		changed[file] = regexp.MustCompile(`max_open: \d+`).ReplaceAllString(text, "max_open: 7")
	}
	c.mount(t, "config", changed)
	testkit.Eventually(t, "the size in the new file is in effect", func() bool {
		return c.number(t.Context(), `db_client_connection_max{db_client_connection_pool_name="orders"}`) == 7
	})
	changed["service.yaml"] = strings.ReplaceAll(changed["service.yaml"], "max_open: 7", "max_open: seven")
	c.mount(t, "config", changed)
	testkit.Eventually(t, "a broken file is reported", func() bool {
		return c.number(t.Context(), `poolkeeper_check_status{check="config/file",status="fail"}`) == 1
	})
	if status, body := c.get(t.Context(), "ops", "/readyz"); status != http.StatusOK {
		t.Errorf("a broken file makes the pod unready: %d %s", status, body)
	}
}

// drained sends SIGTERM. The pod is unready at once, and serves until the endpoints have noticed.
func (c *container) drained(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the pod is not ready", func() bool {
		status, _ := c.get(t.Context(), "ops", c.stack.container().ReadinessProbe.HTTPGet.Path)
		return status == http.StatusServiceUnavailable
	})
	if status, body := c.get(t.Context(), "http", "/orders"); status != http.StatusOK {
		t.Errorf("a request while endpoints notice: %d %q", status, body)
	}
	if status, body := c.get(t.Context(), "ops", c.stack.container().LivenessProbe.HTTPGet.Path); status != http.StatusOK {
		t.Errorf("the liveness probe while the pod drains: %d %q", status, body)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("the program has ended with %v", err)
	}
	if text := c.log.String(); strings.Contains(text, "-password") {
		t.Error("a password is in the log")
	}
}

func TestWrongArgumentsAreRefused(t *testing.T) {
	for args, want := range map[string]string{
		"":                     "-environment is not set",
		"-environment=prod x":  `arguments "x" are not flags`,
		"-environment=prod -y": "flag provided but not defined",
	} {
		if _, err := parse(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// A proxy in the pod connects from a loopback address as well; every other one is no operator.
func TestDetailsAreForForwardedRequests(t *testing.T) {
	for from, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "10.0.0.7:1": false, "": false} {
		if got := forwarded(&http.Request{RemoteAddr: from}); got != want {
			t.Errorf("from %q: %v", from, got)
		}
	}
}
