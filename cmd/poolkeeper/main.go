// Command poolkeeper helps to operate services whose pools poolkeeper keeps.
//
//	poolkeeper doctor redis://… postgres://… mysql://…   examines servers, and advises settings
//	poolkeeper watch http://host:8081/status/            shows a service's status page in the terminal
//	poolkeeper check service.yaml                        prints every fault of a file of connections
//	poolkeeper plan old.yaml new.yaml                    prints the effects of a change of the file
//
// It changes nothing, on no server and in no service, and never prints a password.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/cli"
	"github.com/poolkeeper/poolkeeper/redispool"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the program's own
	defer stop()
	// A second signal ends the program at once, if it is not the echo of the first: timeout(1) sends two.
	defer context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })()
	redis.SetLogger(redispool.GoRedisLogger(slog.New(slog.DiscardHandler))) // the report has the same errors
	return cli.Run(ctx, os.Args[1:], cli.Streams{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv})
}
