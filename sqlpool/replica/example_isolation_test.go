package replica_test

import (
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/replica"
)

// Replicas that serve worse than the others for 20 s get no reads, and are tried again after a minute.
func ExamplePostgresConfig_isolation() {
	orders, err := replica.NewPostgres(replica.PostgresConfig{
		Primary: sqlpool.PostgresConfig{URL: "postgres://primary/orders"},
		Replicas: []sqlpool.PostgresConfig{
			{URL: "postgres://replica-1/orders", Start: poolkeeper.StartDegraded},
			{URL: "postgres://replica-2/orders", Start: poolkeeper.StartDegraded},
		},
		Isolation: poolkeeper.Isolation{MinScore: 75, After: 20 * time.Second, Retry: time.Minute},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = orders.Abort() }() // in a service the registry stops it

	orders.Subscribe(func(e poolkeeper.Event) {
		if e.Kind == poolkeeper.EventMemberIsolated {
			fmt.Println(e) // "orders/replica-1": this server is isolated: …
		}
	})
	for _, a := range orders.Settings() {
		if a.Key == "isolation" {
			fmt.Println(a)
		}
	}
	// Output:
	// isolation=[min_score=75 after=20s retry=1m0s max_retry=5m0s trial_share=0.05 min_serving=1]
}
