package main

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// checked returns the stack with all its faults. No check asks a server or a cluster.
func checked(environment, text string) *stack {
	s := objectsOf(environment, text)
	if len(s.deployments) != 1 || len(s.services) != 1 || len(s.scalers) != 1 || len(s.budgets) != 1 ||
		len(s.policies) != 1 || len(s.monitors) != 1 || len(s.configMaps) != 1 || len(s.deployments[0].Spec.Template.Spec.Containers) != 1 {
		s.add("an object is missing, or there is one too many: %d deployments, %d services, %d scalers, %d budgets, %d policies, %d monitors, %d config maps",
			len(s.deployments), len(s.services), len(s.scalers), len(s.budgets), len(s.policies), len(s.monitors), len(s.configMaps))
		return s
	}
	s.selectors()
	s.ports()
	s.mounts()
	s.confinement()
	s.resources()
	s.spread()
	s.program()
	s.canary()
	return s
}

func (s *stack) pod() *corev1.PodTemplateSpec { return &s.deployments[0].Spec.Template }

func (s *stack) container() *corev1.Container { return &s.pod().Spec.Containers[0] }

// selectors have to choose the pods of the Deployment.
func (s *stack) selectors() {
	byLabels := func(of string, l map[string]string) { s.selects(of, &metav1.LabelSelector{MatchLabels: l}) }
	s.selects("the Deployment", s.deployments[0].Spec.Selector)
	byLabels("the Service", s.services[0].Spec.Selector)
	s.selects("the PodDisruptionBudget", s.budgets[0].Spec.Selector)
	s.selects("the NetworkPolicy", &s.policies[0].Spec.PodSelector)
	s.selects("the PodMonitor", &s.monitors[0].Spec.Selector)
	for _, r := range s.rollouts {
		s.selects("the Rollout", r.Spec.Selector)
	}
	for _, c := range s.pod().Spec.TopologySpreadConstraints {
		s.selects("the spread over "+c.TopologyKey, c.LabelSelector)
	}
	target, kind := s.scalers[0].Spec.ScaleTargetRef, "Deployment"
	if len(s.rollouts) > 0 {
		kind = "Rollout"
	}
	if target.Kind != kind || target.Name != s.deployments[0].Name {
		s.add("the HorizontalPodAutoscaler scales %s %q; the pods are those of the %s", target.Kind, target.Name, kind)
	}
}

func (s *stack) selects(of string, selector *metav1.LabelSelector) {
	chosen, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil || chosen.Empty() || !chosen.Matches(labels.Set(s.pod().Labels)) {
		s.add("the selector of %s does not choose the pods %v", of, s.pod().Labels)
	}
	if selector != nil && selector.MatchLabels["environment"] != "" {
		s.add("the selector of %s has a label of an overlay", of)
	}
}

// ports are named once, and only the port http is in the Service.
func (s *stack) ports() {
	known := func(of string, port intstr.IntOrString) {
		if !slices.ContainsFunc(s.container().Ports, func(p corev1.ContainerPort) bool { return port == intstr.FromString(p.Name) }) {
			s.add("%s names the port %s, which the container does not have", of, port.String())
		}
	}
	for _, p := range s.services[0].Spec.Ports {
		known("the Service", p.TargetPort)
		if p.TargetPort == intstr.FromString("ops") {
			s.add("the Service exposes the port ops")
		}
	}
	open := false
	for _, rule := range s.policies[0].Spec.Ingress {
		for _, p := range rule.Ports {
			known("the NetworkPolicy", *p.Port)
			open = open || *p.Port == intstr.FromString("ops") && len(rule.From) == 0
		}
		open = open || len(rule.Ports) == 0
	}
	if open {
		s.add("the NetworkPolicy opens the port ops to every pod")
	}
	for _, e := range s.monitors[0].Spec.PodMetricsEndpoints {
		known("the PodMonitor", intstr.FromString(*e.Port))
	}
	for probe, p := range s.probes() {
		if p == nil || p.HTTPGet == nil {
			s.add("there is no %s probe by HTTP", probe)
			continue
		}
		known("the "+probe+" probe", p.HTTPGet.Port)
	}
}

func (s *stack) probes() map[string]*corev1.Probe {
	c := s.container()
	return map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe}
}

// mounts are directories whose volumes exist, and the files that are named in them exist too.
func (s *stack) mounts() {
	for _, m := range s.container().VolumeMounts {
		if m.SubPath != "" || m.SubPathExpr != "" {
			s.add("the mount %s is a subPath, which is never updated", m.MountPath)
		}
		if !m.ReadOnly {
			s.add("the mount %s can be written", m.MountPath)
		}
	}
	files := s.files()
	for _, name := range s.named() {
		if _, ok := files[name]; !ok {
			s.add("%s is named, and no mount has it", name)
		}
	}
	for name := range files {
		if strings.Contains(name, "/secrets/") && !slices.Contains(s.named(), name) {
			s.add("%s is mounted, and nothing reads it", name)
		}
	}
	account := s.pod().Spec.ServiceAccountName
	if len(s.accounts) != 1 || s.accounts[0].Name != account {
		s.add("the ServiceAccount %q does not exist", account)
	}
}

// files are those of the container, by path. The values of external secrets are elsewhere.
func (s *stack) files() map[string]string {
	files := map[string]string{}
	for _, m := range s.container().VolumeMounts {
		i := slices.IndexFunc(s.pod().Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			s.add("the mount %s is of the volume %q, which does not exist", m.MountPath, m.Name)
			continue
		}
		for key, value := range s.volume(s.pod().Spec.Volumes[i]) {
			files[path.Join(m.MountPath, key)] = value
		}
	}
	return files
}

func (s *stack) volume(v corev1.Volume) map[string]string {
	switch {
	case v.ConfigMap != nil && v.ConfigMap.Name == s.configMaps[0].Name:
		return s.configMaps[0].Data
	case v.Secret != nil:
		data := map[string]string{}
		for _, secret := range s.secrets {
			if secret.Name == v.Secret.SecretName {
				for key, value := range secret.Data {
					data[key] = string(value)
				}
			}
		}
		for _, e := range s.externals {
			if e.Spec.Target.Name == v.Secret.SecretName {
				for _, d := range e.Spec.Data {
					data[d.SecretKey] = ""
				}
			}
		}
		if len(data) > 0 {
			return data
		}
	}
	s.add("the volume %q is of an object that does not exist", v.Name)
	return nil
}

// mounted are the paths under which the program looks for its files.
var mounted = regexp.MustCompile(`/etc/orders/[\w./-]+`)

// named returns the paths in the program's arguments and in its file.
func (s *stack) named() []string {
	text := strings.Join(s.container().Args, "\n")
	for _, value := range s.configMaps[0].Data {
		text += "\n" + value
	}
	names := mounted.FindAllString(text, -1)
	slices.Sort(names)
	return slices.Compact(names)
}

// confinement is that of the restricted profile of pod security.
func (s *stack) confinement() {
	pod, c := s.pod().Spec, s.container().SecurityContext
	if pod.SecurityContext == nil || c == nil || c.Capabilities == nil {
		s.add("the pod or its container has no securityContext")
		return
	}
	isTrue := func(b *bool) bool { return b != nil && *b }
	if !isTrue(pod.SecurityContext.RunAsNonRoot) || pod.SecurityContext.RunAsUser == nil || *pod.SecurityContext.RunAsUser == 0 {
		s.add("the pod may run as root")
	}
	if p := pod.SecurityContext.SeccompProfile; p == nil || p.Type != corev1.SeccompProfileTypeRuntimeDefault {
		s.add("the pod has no seccomp profile")
	}
	if c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation || !isTrue(c.ReadOnlyRootFilesystem) || !slices.Contains(c.Capabilities.Drop, "ALL") {
		s.add("the container may gain privileges, or write to its root")
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		s.add("the pod has a token of the API server")
	}
	for _, v := range pod.Volumes {
		if v.Secret == nil {
			continue
		}
		if mode := v.Secret.DefaultMode; mode == nil || *mode&0o007 != 0 || *mode&0o040 == 0 || pod.SecurityContext.FSGroup == nil {
			s.add("the secret is not readable by the group alone")
		}
	}
	if image := s.container().Image; !regexp.MustCompile(`^registry\.example\.com/orders:[\w.-]+$`).MatchString(image) || strings.HasSuffix(image, ":latest") {
		s.add("the image %q has no tag of its own", image)
	}
}

// resources are set, and Go knows them.
func (s *stack) resources() {
	r := s.container().Resources
	reserved, limit, cpu := r.Requests.Memory().Value(), r.Limits.Memory().Value(), r.Limits.Cpu()
	i := slices.IndexFunc(s.container().Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
	if i < 0 || s.container().Env[i].ValueFrom == nil || s.container().Env[i].ValueFrom.ResourceFieldRef == nil ||
		s.container().Env[i].ValueFrom.ResourceFieldRef.Resource != "requests.memory" {
		s.add("GOMEMLIMIT is not requests.memory")
	}
	if share := float64(reserved) / float64(max(limit, 1)); share < 0.8 || share > 0.95 {
		s.add("GOMEMLIMIT is %.2f of the limit of memory; it must be 0.8 to 0.95", share)
	}
	if cpu.IsZero() || cpu.MilliValue()%1000 != 0 || r.Requests.Cpu().IsZero() {
		s.add("the limit of CPU is %s: GOMAXPROCS, which is that rounded up, needs a whole number, and a request", cpu)
	}
	if slices.ContainsFunc(s.container().Env, func(e corev1.EnvVar) bool { return e.Name == "GOMAXPROCS" }) {
		s.add("GOMAXPROCS is set; it would not follow the limit of CPU")
	}
}

// spread keeps pods of one version on different zones and nodes.
func (s *stack) spread() {
	label := "pod-template-hash"
	if len(s.rollouts) > 0 {
		label = "rollouts-pod-template-hash"
	}
	pod := s.pod().Spec
	if len(pod.TopologySpreadConstraints) == 0 || pod.TopologySpreadConstraints[0].TopologyKey != "topology.kubernetes.io/zone" ||
		!slices.Equal(pod.TopologySpreadConstraints[0].MatchLabelKeys, []string{label}) {
		s.add("pods are not spread over zones, by %s", label)
	}
	if pod.Affinity == nil || pod.Affinity.PodAntiAffinity == nil || len(pod.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		s.add("pods are not kept on different nodes")
		return
	}
	term := pod.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm
	s.selects("the anti-affinity", cmp.Or(term.LabelSelector, &metav1.LabelSelector{}))
	if term.TopologyKey != "kubernetes.io/hostname" || !slices.Equal(term.MatchLabelKeys, []string{label}) {
		s.add("pods are not kept on different nodes, by %s", label)
	}
}
