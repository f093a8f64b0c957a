package main

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

func environments() []string { return []string{"dev", "staging", "prod"} }

// render builds an overlay, as kubectl kustomize does.
func render(t *testing.T, environment string) string {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "overlays/"+environment)
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// stack is the objects of one environment.
type stack struct {
	environment string
	faults      []string
	row         string // of the table of connections in the docs

	deployments []appsv1.Deployment
	accounts    []corev1.ServiceAccount
	services    []corev1.Service
	configMaps  []corev1.ConfigMap
	secrets     []corev1.Secret
	externals   []externalSecret
	scalers     []autoscalingv2.HorizontalPodAutoscaler
	budgets     []policyv1.PodDisruptionBudget
	policies    []networkingv1.NetworkPolicy
	monitors    []monitoringv1.PodMonitor
	rollouts    []rolloutsv1alpha1.Rollout
	templates   []rolloutsv1alpha1.AnalysisTemplate
}

// externalSecret has the fields that are used here; the operator's own types need most of its code.
type externalSecret struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		RefreshInterval metav1.Duration `json:"refreshInterval"`
		SecretStoreRef  struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"secretStoreRef"`
		Target struct {
			Name string `json:"name"`
		} `json:"target"`
		Data []struct {
			SecretKey string `json:"secretKey"`
			RemoteRef struct {
				Key      string `json:"key"`
				Property string `json:"property"`
			} `json:"remoteRef"`
		} `json:"data"`
	} `json:"spec"`
}

// add notes a fault.
func (s *stack) add(format string, args ...any) {
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// objectsOf decodes objects strictly: a field that Kubernetes does not know is a fault.
func objectsOf(environment, text string) *stack {
	s := &stack{environment: environment}
	for doc := range bytes.SplitSeq([]byte(text), []byte("\n---\n")) {
		var object metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(doc, &object); err != nil {
			s.add("an object is no YAML: %v", err)
			continue
		}
		id := object.APIVersion + "/" + object.Kind
		decode := s.decoders()[id]
		if decode == nil {
			s.add("%s %q: the kind is not known", id, object.Name)
			continue
		}
		if err := decode(doc); err != nil {
			s.add("%s %q: %v", id, object.Name, err)
		}
		if want := "orders-" + environment; object.Namespace != want {
			s.add("%s %q is in the namespace %q, want %q", id, object.Name, object.Namespace, want)
		}
	}
	return s
}

func (s *stack) decoders() map[string]func([]byte) error {
	return map[string]func([]byte) error{
		"apps/v1/Deployment":                     into(&s.deployments),
		"v1/ServiceAccount":                      into(&s.accounts),
		"v1/Service":                             into(&s.services),
		"v1/ConfigMap":                           into(&s.configMaps),
		"v1/Secret":                              into(&s.secrets),
		"external-secrets.io/v1/ExternalSecret":  into(&s.externals),
		"autoscaling/v2/HorizontalPodAutoscaler": into(&s.scalers),
		"policy/v1/PodDisruptionBudget":          into(&s.budgets),
		"networking.k8s.io/v1/NetworkPolicy":     into(&s.policies),
		"monitoring.coreos.com/v1/PodMonitor":    into(&s.monitors),
		"argoproj.io/v1alpha1/Rollout":           into(&s.rollouts),
		"argoproj.io/v1alpha1/AnalysisTemplate":  into(&s.templates),
	}
}

func into[T any](all *[]T) func([]byte) error {
	return func(doc []byte) error {
		var object T
		text, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			return err
		}
		unknown, err := json.UnmarshalStrict(text, &object) // as the API server does
		*all = append(*all, object)
		return errors.Join(append(unknown, err)...)
	}
}
