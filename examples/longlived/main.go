// Command longlived is a service on gin with WebSockets and server-sent events, and a trial of it: a
// thousand clients of each kind, a slow reader, a dead peer, a user with one connection too many, and
// SIGTERM.
//
//	cd examples/longlived && go run . -clients 1000
//
// The service runs in a process of its own, so that its goroutines and memory can be told from those
// of the clients. service.go is the part to copy.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
)

// roleEnv makes the program the service; without it, it is the trial.
const roleEnv = "POOLKEEPER_LONGLIVED_SERVICE"

func main() {
	ctx := context.Background() //nolint:forbidigo // main has no context
	if os.Getenv(roleEnv) != "" {
		exitOn(serve(ctx, os.Stdout))
		return
	}
	flags := flag.NewFlagSet("longlived", flag.ContinueOnError)
	clients := flags.Int("clients", 1000, "`number` of clients of each kind")
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		exitOn(err)
	}
	_, err := try(ctx, *clients, os.Stdout)
	exitOn(err)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "longlived:", err)
		os.Exit(1)
	}
}
