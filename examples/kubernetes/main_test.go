package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
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
	b, err := os.ReadFile("deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d deployment
	if err := yaml.NewDecoder(bytes.NewReader(b)).Decode(&d); err != nil { // the first document
		t.Fatal(err)
	}
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

// gives is how long a probe may fail before something is done.
func (p probe) gives() time.Duration { return seconds(p.PeriodSeconds * p.FailureThreshold) }

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
