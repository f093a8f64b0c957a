package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/poolkeeper/poolkeeper/config"
	"github.com/poolkeeper/poolkeeper/internal/fleet"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/sqlpool"
)

const (
	// kubeletSync is how long the kubelet takes to update a mounted directory: syncFrequency of a
	// minute, half as much again by its jitter.
	kubeletSync = 90 * time.Second
	// rotation is how long the servers accept an old password beside the new one.
	rotation = 5 * time.Minute
	// endpoints is for the news that a pod is not ready to reach every node.
	endpoints = 2 * time.Second
)

// program checks the program's arguments and file against the manifests.
func (s *stack) program() {
	o, err := parse(s.arguments())
	if err != nil {
		s.add("the arguments: %v", err)
		return
	}
	if o.environment != s.environment {
		s.add("the environment is %q", o.environment)
	}
	f, err := s.load(o)
	if err != nil {
		s.add("%v", err)
		return
	}
	s.pools(f, o)
	s.periods(f.Lifecycle())
	s.reload(o)
	if err := f.Abort(); err != nil {
		s.add("%v", err)
	}
	for name, port := range map[string]string{"api": "http", "ops": "ops"} {
		for _, p := range s.container().Ports {
			if want := `{addr: ":` + strconv.Itoa(int(p.ContainerPort)) + `"`; p.Name == port && !strings.Contains(s.configMaps[0].Data["service.yaml"], name+": "+want) {
				s.add("the server %s does not listen at port %d", name, p.ContainerPort)
			}
		}
	}
}

// arguments returns the container's, with its variables in place.
func (s *stack) arguments() []string {
	var args []string
	for _, a := range s.container().Args {
		for _, e := range s.container().Env {
			a = strings.ReplaceAll(a, "$("+e.Name+")", e.Value)
		}
		args = append(args, a)
	}
	return args
}

// load reads the file in the ConfigMap as the program does, without its secrets.
func (s *stack) load(o options) (*config.File, error) {
	dir, err := os.MkdirTemp("", "orders")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, filepath.Base(o.config))
	if err := os.WriteFile(file, []byte(s.files()[o.config]), 0o600); err != nil {
		return nil, err
	}
	return config.Load(file, config.Environment(o.environment), config.Offline())
}

// pools are those that the program asks for, and all replicas together fit their servers.
func (s *stack) pools(f *config.File, o options) {
	if _, err := service(f, o, slog.New(slog.DiscardHandler)); err != nil {
		s.add("%v", err)
		return
	}
	cache, err1 := f.Redis("cache")
	orders, err2 := f.Postgres("orders")
	if err := errors.Join(err1, err2); err != nil {
		s.add("%v", err)
		return
	}
	s.fits("redis", cache)
	s.fits("postgres", orders)
}

type statsAndSettings interface {
	lifecycle.StatsProvider
	lifecycle.SettingsProvider
}

// fits compares the demand of all replicas with what the annotation says that the server grants.
func (s *stack) fits(server string, p statsAndSettings) {
	replicas := int(s.scalers[0].Spec.MaxReplicas)
	granted, err := strconv.Atoi(s.scalers[0].Annotations["example.com/"+server+"-connections"])
	if err != nil {
		s.add("the annotation of %s: %v", server, err)
	}
	d := fleet.Of(p.Stats().Max, replicas)
	if server == "postgres" {
		s.row = fmt.Sprintf("| %s | %d | %d | %d | %d | %d |", s.environment, replicas, d.Surge, p.Stats().Max, d.Total, granted)
	}
	if d.Total > granted {
		s.add("%s: %s; it grants %d", server, d, granted)
	}
	for _, a := range p.Settings() {
		if a.Key == "instances" && a.Value.Int64() != int64(replicas) {
			s.add("%s: instances is %d, maxReplicas %d", server, a.Value.Int64(), replicas)
		}
	}
	for of, surge := range s.surges() {
		if n, err := intstr.GetScaledValueFromIntOrPercent(surge, replicas, true); err != nil || n > d.Surge {
			s.add("maxSurge of the %s is %s, %d pods; Limits reckons with %d", of, surge, n, d.Surge)
		}
	}
}

func (s *stack) surges() map[string]*intstr.IntOrString {
	out := map[string]*intstr.IntOrString{}
	if r := s.deployments[0].Spec.Strategy.RollingUpdate; r != nil {
		out["Deployment"] = r.MaxSurge
	}
	for _, r := range s.rollouts {
		if c := r.Spec.Strategy.Canary; c != nil {
			out["Rollout"] = c.MaxSurge
		}
	}
	return out
}

func seconds[N int32 | int64](n N) time.Duration { return time.Duration(n) * time.Second }

// lasts is how long a probe may fail before something is done.
func lasts(p *corev1.Probe) time.Duration { return seconds(p.PeriodSeconds * p.FailureThreshold) }

// periods of the manifests fit those of the registry.
func (s *stack) periods(l lifecycle.Config) {
	pod, c, d := s.pod().Spec, s.container(), s.deployments[0].Spec
	grace, start := seconds(*pod.TerminationGracePeriodSeconds), lasts(c.StartupProbe)
	if grace <= l.ShutdownTimeout {
		s.add("the grace period of %s leaves nothing beyond shutdown_timeout %s", grace, l.ShutdownTimeout)
	}
	if 2*l.DrainDelay >= l.ShutdownTimeout {
		s.add("drain_delay %s leaves less than half of shutdown_timeout %s", l.DrainDelay, l.ShutdownTimeout)
	}
	if start <= l.StartTimeout {
		s.add("the startup probe gives up after %s, before start_timeout %s", start, l.StartTimeout)
	}
	if notice := lasts(c.ReadinessProbe) + seconds(c.ReadinessProbe.TimeoutSeconds) + endpoints; notice > l.DrainDelay {
		s.add("it takes %s until no request is sent to a pod that drains; drain_delay is %s", notice, l.DrainDelay)
	}
	if outage := l.Health.Interval + time.Duration(l.Health.FailureThreshold-1)*l.Health.RetryInterval; lasts(c.ReadinessProbe) > outage {
		s.add("the readiness probe needs %s, longer than the checks need for a verdict, %s", lasts(c.ReadinessProbe), outage)
	}
	if progress := seconds(*d.ProgressDeadlineSeconds); progress <= start+seconds(d.MinReadySeconds) {
		s.add("progressDeadlineSeconds %s is over before the startup probe gives up", progress)
	}
	scaler := s.scalers[0].Spec
	down := seconds(*scaler.Behavior.ScaleDown.StabilizationWindowSeconds)
	if settled := start + seconds(d.MinReadySeconds) + averaged + grace; down < settled {
		s.add("the autoscaler scales down after %s; the pools of a new pod are known after %s", down, settled)
	}
	if least := int(*scaler.MinReplicas); least < 2 && s.environment != "dev" {
		s.add("minReplicas is %d: a node that is drained takes the service with it", least)
	}
	if d.Replicas != nil {
		s.add("the Deployment sets replicas, which the autoscaler owns")
	}
}

// reload checks that the news of a file and of a secret arrives in time.
func (s *stack) reload(o options) {
	// The other instances wait for twice Soak and Every. The first may see the change as much later
	// as the kubelet takes, look twice, and soak.
	if wait, need := 2*(o.soak+o.every), kubeletSync+2*o.every+o.soak; wait < need {
		s.add("the other instances wait %s before they follow; the first need %s", wait, need)
	}
	for _, e := range s.externals {
		if known := e.Spec.RefreshInterval.Duration + kubeletSync + sqlpool.DefaultFileInterval; known >= rotation {
			s.add("a rotated password is known after %s; the old one is valid for %s", known, rotation)
		}
	}
}
