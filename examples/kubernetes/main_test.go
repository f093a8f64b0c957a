package main

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// probe is what matters here of a probe in a manifest.
type probe struct {
	HTTPGet struct {
		Path string `yaml:"path"`
	} `yaml:"httpGet"`
	PeriodSeconds    int `yaml:"periodSeconds"`
	TimeoutSeconds   int `yaml:"timeoutSeconds"`
	FailureThreshold int `yaml:"failureThreshold"`
}

type deployment struct {
	Kind string `yaml:"kind"`
	Spec struct {
		Replicas int `yaml:"replicas"`
		Template struct {
			Spec struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []struct {
					Startup   probe `yaml:"startupProbe"`
					Readiness probe `yaml:"readinessProbe"`
					Liveness  probe `yaml:"livenessProbe"`
				} `yaml:"containers"`
			} `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

func TestManifestFitsTheRegistry(t *testing.T) {
	var d deployment
	read(t, "deployment.yaml", &d)
	cfg, pod := config(), d.Spec.Template.Spec
	if d.Kind != "Deployment" || len(pod.Containers) != 1 {
		t.Fatalf("the first document is a %s with %d containers", d.Kind, len(pod.Containers))
	}
	c := pod.Containers[0]
	if d.Spec.Replicas != replicas {
		t.Errorf("replicas: %d in the manifest, %d in the configuration", d.Spec.Replicas, replicas)
	}
	if grace := seconds(pod.Grace); grace <= cfg.ShutdownTimeout {
		t.Errorf("terminationGracePeriodSeconds %v leaves nothing beyond ShutdownTimeout %v", grace, cfg.ShutdownTimeout)
	}
	if start := c.Startup.gives(); start <= cfg.StartTimeout {
		t.Errorf("the startup probe gives up after %v, before StartTimeout %v", start, cfg.StartTimeout)
	}
	if notice := c.Readiness.gives() + seconds(c.Readiness.TimeoutSeconds); notice > cfg.DrainDelay {
		t.Errorf("the readiness probe needs up to %v to notice, DrainDelay is %v", notice, cfg.DrainDelay)
	}
	for path, p := range map[string]probe{"/startupz": c.Startup, "/readyz": c.Readiness, "/livez": c.Liveness} {
		if p.HTTPGet.Path != path {
			t.Errorf("a probe asks %q, want %q", p.HTTPGet.Path, path)
		}
	}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

// Prometheus scrapes what the service serves, and has an alert for it.
func TestMonitorFitsTheDeployment(t *testing.T) {
	var d struct {
		Spec struct {
			Template struct {
				Metadata struct {
					Labels map[string]string `yaml:"labels"`
				} `yaml:"metadata"`
				Spec struct {
					Containers []struct {
						Ports []struct {
							Name string `yaml:"name"`
						} `yaml:"ports"`
					} `yaml:"containers"`
				} `yaml:"spec"`
			} `yaml:"template"`
		} `yaml:"spec"`
	}
	read(t, "deployment.yaml", &d)
	var m struct {
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			} `yaml:"selector"`
			Endpoints []struct {
				Port string `yaml:"port"`
				Path string `yaml:"path"`
			} `yaml:"podMetricsEndpoints"`
		} `yaml:"spec"`
	}
	read(t, "podmonitor.yaml", &m)
	if pod := d.Spec.Template; !maps.Equal(m.Spec.Selector.MatchLabels, pod.Metadata.Labels) || len(m.Spec.Endpoints) != 1 ||
		m.Spec.Endpoints[0].Port != pod.Spec.Containers[0].Ports[1].Name {
		t.Errorf("%+v does not select %+v", m.Spec, pod)
	}
	var rules struct {
		Kind string `yaml:"kind"`
		Spec struct {
			Groups []any `yaml:"groups"`
		} `yaml:"spec"`
	}
	read(t, "../../ops/prometheusrule.yaml", &rules)
	if rules.Kind != "PrometheusRule" || len(rules.Spec.Groups) != 2 {
		t.Errorf("the rules are a %s with %d groups", rules.Kind, len(rules.Spec.Groups))
	}

	reg := lifecycle.New(lifecycle.Config{})
	handler := ops(reg, statuspage.New(reg, statuspage.Config{Allow: forwarded}))
	for path, want := range map[string]string{
		m.Spec.Endpoints[0].Path: "poolkeeper_", "/status/": "<h1", "/debug/pprof/": "",
	} {
		for from, allowed := range map[string]bool{"127.0.0.1:1": true, "10.0.0.7:1": path != "/debug/pprof/"} {
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil)
			r.RemoteAddr = from
			handler.ServeHTTP(w, r)
			if ok := w.Code == http.StatusOK; ok != allowed || ok && !strings.Contains(w.Body.String(), want) {
				t.Errorf("GET %s from %s: %d", path, from, w.Code)
			}
		}
	}
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.NewDecoder(bytes.NewReader(b)).Decode(into); err != nil { // the first document
		t.Fatalf("%s: %v", file, err)
	}
}

// gives is how long a probe may fail before something is done.
func (p probe) gives() time.Duration { return seconds(p.PeriodSeconds * p.FailureThreshold) }

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
