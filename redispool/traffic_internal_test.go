package redispool

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// answer is an error that the server has sent.
type answer string

func (a answer) Error() string { return string(a) }
func (answer) RedisError()     {}

func TestOnlyFaultsOfTheNodeCountAgainstIt(t *testing.T) {
	for name, c := range map[string]struct {
		err               error
		command           string
		answers, failures uint64
	}{
		"an answer":              {nil, "get", 1, 0},
		"no such key":            {redis.Nil, "get", 1, 0},
		"a wrong type":           {answer("WRONGTYPE Operation against a key"), "get", 1, 0},
		"a redirect":             {answer("MOVED 1 10.0.0.1:7000"), "get", 1, 0},
		"loading":                {answer("LOADING Redis is loading the dataset in memory"), "get", 0, 1},
		"without its primary":    {answer("MASTERDOWN Link with MASTER is down"), "get", 0, 1},
		"a script that runs on":  {answer("BUSY Redis is busy running a script"), "get", 0, 1},
		"a broken connection":    {io.EOF, "get", 0, 1},
		"not sent":               {staleError{}, "get", 0, 0},
		"given up by its caller": {context.Canceled, "get", 0, 0},
		"no connection in time":  {redis.ErrPoolTimeout, "get", 0, 0},
		"a command that waits":   {nil, "BLPOP", 0, 0},
		"a bug":                  {errors.New("bug"), "get", 0, 0},
	} {
		var tr traffic
		tr.grade(monotime.Now(), c.err, redis.NewCmd(t.Context(), c.command))
		if a, f := tr.answer.Snapshot().Count, tr.failures.Load(); a != c.answers || f != c.failures {
			t.Errorf("%s: %d answers and %d failures", name, a, f)
		}
	}
}

// The price of a score for each command.
func BenchmarkGradedCommand(b *testing.B) {
	for name, on := range map[string]bool{"off": false, "on": true} {
		b.Run(name, func(b *testing.B) {
			i := new(isolator)
			i.on.Store(on)
			n := &node{pool: &Pool{isolator: i}, traffic: new(traffic)}
			run := n.graded(func(context.Context, redis.Cmder) error { return nil })
			cmd := redis.NewCmd(b.Context(), "get", "a")
			b.ReportAllocs()
			for b.Loop() {
				_ = run(b.Context(), cmd)
			}
		})
	}
}
