package main

import (
	"net/http"

	apiserver "k8s.io/apiserver/pkg/server/healthz"
	controller "sigs.k8s.io/controller-runtime/pkg/healthz"
)

// handlers of Kubernetes' own libraries with n healthy checks, for the measurement. Both run their
// checks when asked.

func apiserverHandler(n int) http.Handler {
	list := make([]apiserver.HealthChecker, n)
	for i := range list {
		list[i] = apiserver.NamedCheck(checkName(i), func(*http.Request) error { return nil })
	}
	mux := http.NewServeMux()
	apiserver.InstallHandler(mux, list...)
	return mux
}

func controllerRuntimeHandler(n int) http.Handler {
	all := make(map[string]controller.Checker, n)
	for i := range n {
		all[checkName(i)] = controller.Ping
	}
	return &controller.Handler{Checks: all}
}
