package main

import (
	"os"
	"strings"
	"testing"
)

func TestManifestsFitEachOtherAndTheProgram(t *testing.T) {
	docs, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, environment := range environments() {
		s := checked(environment, render(t, environment))
		for _, fault := range s.faults {
			t.Errorf("%s: %s", environment, fault)
		}
		if !strings.Contains(string(docs), s.row) {
			t.Errorf("docs/kubernetes.md has no row %s", s.row)
		}
	}
}

// mutation is a mistake in prod, and a word of the fault that has to name it.
type mutation struct{ from, to, fault string }

func mutations() []mutation {
	const settings = "  minReadySeconds: 10\n  progressDeadlineSeconds: 300\n  revisionHistoryLimit: 3\n  selector:\n    matchLabels:\n      app: orders\n  strategy:\n    rolling" // of the Deployment
	return []mutation{
		// objects
		{"kind: Service\n", "kind: Servize\n", "the kind is not known"},
		{"revisionHistoryLimit: 3\n  selector", "revisionHistorylimit: 3\n  selector", `unknown field "spec.revisionHistorylimit"`},
		{"setWeight: 50", "weight: 50", "unknown field"},
		{"scrapeTimeout: 5s", "scrapeTimeOut: 5s", "unknown field"},
		{"maxReplicas: 12", "maxReplicas: 12\n  maxReplicas: 13", "already set"},
		{"namespace: orders-prod", "namespace: orders-dev", `in the namespace "orders-dev"`},
		// selectors and ports
		{"  selector:\n    app: orders\n", "  selector:\n    app: order\n", "the selector of the Service"},
		{"matchLabels:\n      app: orders\n  unhealthy", "matchLabels:\n      app: order\n  unhealthy", "the selector of the PodDisruptionBudget"},
		{"podSelector:\n    matchLabels:\n      app: orders", "podSelector:\n    matchLabels:\n      app: order", "the selector of the NetworkPolicy"},
		{"app: orders\n        matchLabelKeys", "app: order\n        matchLabelKeys", "the selector of the spread"},
		{"app: orders\n              matchLabelKeys", "app: order\n              matchLabelKeys", "the selector of the anti-affinity"},
		{"    kind: Rollout\n    name: orders\n", "    kind: Deployment\n    name: orders\n", "the HorizontalPodAutoscaler scales Deployment"},
		{"targetPort: http", "targetPort: web", "the Service names the port web"},
		{"targetPort: http", "targetPort: ops", "the Service exposes the port ops"},
		{"    ports:\n    - port: ops", "    ports:\n    - port: probes", "the NetworkPolicy names the port probes"},
		{"  - from:\n    - namespaceSelector:\n        matchLabels:\n          kubernetes.io/metadata.name: monitoring\n    ports:", "  - ports:", "opens the port ops"},
		{"path: /metrics\n    port: ops", "path: /metrics\n    port: http2", "the PodMonitor names the port http2"},
		{"path: /readyz\n            port: ops", "path: /readyz\n            port: opss", "the readiness probe names the port opss"},
		{"containerPort: 8080", "containerPort: 8000", "the server api does not listen"},
		// files
		{"name: config\n          readOnly: true", "name: config\n          readOnly: true\n          subPath: service.yaml", "is a subPath"},
		{"name: secrets\n          readOnly: true", "name: secrets", "can be written"},
		{"secretKey: orders-url", "secretKey: order-url", "/etc/orders/secrets/orders-url is named, and no mount has it"},
		{"secretKey: orders-url", "secretKey: order-url", "/etc/orders/secrets/order-url is mounted, and nothing reads it"},
		{"secretName: orders", "secretName: order", "is of an object that does not exist"},
		{"configMap:\n          name: orders", "configMap:\n          name: orders-x", "is of an object that does not exist"},
		{"mountPath: /etc/orders/config", "mountPath: /etc/order/config", "/etc/orders/config/service.yaml is named"},
		{"serviceAccountName: orders", "serviceAccountName: order", "the ServiceAccount"},
		{"max_open_ceiling: 40", "max_open_ceilling: 40", "did you mean max_open_ceiling"},
		{"    postgres:\n      orders:", "    postgres:\n      order:", "postgres.orders.url is empty"},
		{"      ops: {addr", "      opz: {addr", `server "opz" has no handler`},
		{"- -stage=10", "- -stages=10", "flag provided but not defined"},
		{"value: prod", "value: production", `the environment is "production"`},
		// the container
		{"runAsNonRoot: true", "runAsNonRoot: false", "may run as root"},
		{"type: RuntimeDefault", "type: Unconfined", "seccomp"},
		{"readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "write to its root"},
		{"defaultMode: 288", "defaultMode: 256", "readable by the group"},
		{"orders:1.3.2", "orders:latest", "has no tag of its own"},
		{"resource: requests.memory", "resource: limits.memory", "GOMEMLIMIT is not"},
		{"memory: 460Mi", "memory: 512Mi", "GOMEMLIMIT is 1.00"},
		{`cpu: "2"`, "cpu: 1500m", "a whole number"},
		{"- name: GOMEMLIMIT", "- name: GOMAXPROCS\n          value: \"8\"\n        - name: GOMEMLIMIT", "GOMAXPROCS is set"},
		{"topologyKey: topology.kubernetes.io/zone", "topologyKey: topology.kubernetes.io/region", "not spread over zones"},
		{"matchLabelKeys:\n        - rollouts-pod-template-hash", "matchLabelKeys:\n        - pod-template-hash", "not spread over zones"},
		{"topologyKey: kubernetes.io/hostname", "topologyKey: topology.kubernetes.io/zone", "not kept on different nodes"},
		// periods
		{"terminationGracePeriodSeconds: 35", "terminationGracePeriodSeconds: 30", "leaves nothing beyond shutdown_timeout"},
		{"shutdown_timeout: 30s", "shutdown_timeout: 10s", "less than half of shutdown_timeout"},
		{"failureThreshold: 31", "failureThreshold: 30", "before start_timeout"},
		{"drain_delay: 5s", "drain_delay: 4s", "until no request is sent"},
		{"failureThreshold: 1\n", "failureThreshold: 4\n", "longer than the checks need"},
		{settings, strings.Replace(settings, "300", "60", 1), "progressDeadlineSeconds"},
		{"stabilizationWindowSeconds: 600", "stabilizationWindowSeconds: 120", "the autoscaler scales down after 2m0s"},
		{"minReplicas: 4", "minReplicas: 1", "minReplicas is 1"},
		{settings, "  replicas: 3\n" + settings, "sets replicas"},
		{"- -soak=2m", "- -soak=30s", "the other instances wait 1m10s"},
		{"refreshInterval: 1m", "refreshInterval: 1h", "a rotated password is known after"},
		// connections
		{"maxReplicas: 12", "maxReplicas: 16", "redis: instances is 12, maxReplicas 16"},
		{"maxReplicas: 12", "maxReplicas: 16", "postgres: 16 instances, and 4 more in a rolling update, may open 21 connections each, 420 in all; it grants 397"},
		{"max_open: 20, min_idle: 4", "max_open: 40, min_idle: 4", "it grants 397"},
		{`redis-connections: "9968"`, `redis-connections: "300"`, "it grants 300"},
		{"maxSurge: 25%\n      maxUnavailable: 0\n      steps", "maxSurge: 50%\n      maxUnavailable: 0\n      steps", "maxSurge of the Rollout is 50%, 6 pods"},
		// the canary and the autoscaler
		{"duration: 3m", "duration: 2m", "is judged before its queries can see"},
		{"- templateName: orders-canary", "- templateName: orders", "does not exist"},
		{"          - name: stable\n            valueFrom:\n              podTemplateHashValue: Stable\n", "", `the argument "stable" of orders-canary is not given`},
		{"args:\n  - name: namespace\n", "args:\n", `uses "namespace", which is no argument`},
		{"poolkeeper_pool_leaks_total{", "poolkeeper_pool_leak_total{", "the metric poolkeeper_pool_leak_total does not exist"},
		{`"}[2m]`, `"}[5m]`, "the query looks back 5m"},
		{"podTargetLabels:\n  - rollouts-pod-template-hash", "podTargetLabels:\n  - app", "does not copy the label"},
		{"name: poolkeeper_pool_saturation", "name: poolkeeper_pool_full", "the adapter has poolkeeper_pool_saturation"},
		{"db_client_connection_pool_name: orders", "db_client_connection_pool_name: order", `of the pool "order"`},
		{"averageValue: 700m", "averageValue: 950m", "scales at 0.95"},
	}
}

func TestEachMistakeIsFound(t *testing.T) {
	right := render(t, "prod")
	for _, m := range mutations() {
		wrong := strings.Replace(right, m.from, m.to, 1)
		if wrong == right {
			t.Errorf("the manifests have no %q", m.from)
			continue
		}
		if faults := strings.Join(checked("prod", wrong).faults, "\n"); !strings.Contains(faults, m.fault) {
			t.Errorf("%q for %q: no fault has %q, but\n%s", m.to, m.from, m.fault, faults)
		}
	}
}
