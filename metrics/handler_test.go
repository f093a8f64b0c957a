package metrics_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/measure/measuretest"
	"github.com/poolkeeper/poolkeeper/metrics"
)

func TestTheHandlerHasMetricsOfThePoolsOfGoAndOfTheProcess(t *testing.T) {
	answer := httptest.NewRecorder()
	metrics.Handler(measuretest.Pools(1)).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("%d: %s", answer.Code, answer.Body)
	}
	for _, line := range []string{
		`db_client_connection_max{db_client_connection_pool_name="pool-000"} 60`, "go_goroutines ", "process_",
	} {
		if !strings.Contains(answer.Body.String(), line) {
			t.Errorf("no %q in the answer", line)
		}
	}
}
