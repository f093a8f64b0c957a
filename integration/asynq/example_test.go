package integration_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"

	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/redispool"
)

// A service that puts jobs into a queue and works on them. For worker see the doc comment of the
// package.
func Example() {
	server, err := miniredis.Run() // stands for the real one
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	pool, err := redispool.New(redispool.Config{URL: "redis://" + server.Addr(), MaxOpen: 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	queue := asynq.NewClientFromRedisClient(pool.Client())
	jobs := asynq.NewServerFromRedisClient(pool.Client(), asynq.Config{
		Concurrency:     4,
		ShutdownTimeout: 5 * time.Second, // shorter than the registry's
		LogLevel:        asynq.FatalLevel,
	})
	done := make(chan string, 1)
	handler := asynq.HandlerFunc(func(_ context.Context, job *asynq.Task) error {
		done <- string(job.Payload())
		return nil
	})

	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: 20 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	reg.Add("redis", pool)
	reg.Add("worker", worker{jobs, handler}, lifecycle.WithDependencies("redis"))

	ctx := context.Background()
	if err := reg.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := queue.EnqueueContext(ctx, asynq.NewTask("greet", []byte("hello"))); err != nil {
		fmt.Println(err)
	}
	fmt.Println("done:", <-done)
	fmt.Println("shutdown:", reg.Shutdown(ctx))
	// Output:
	// done: hello
	// shutdown: <nil>
}
