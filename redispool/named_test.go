package redispool_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/redispool"
)

func TestNewNamesThePoolInEveryFault(t *testing.T) {
	_, err := redispool.New(redispool.Config{Name: "sessions", MaxOpen: -1, DialTimeout: -2})
	lines := strings.Split(fmt.Sprint(err), "\n")
	for _, line := range lines {
		if !strings.HasPrefix(line, `redispool: new "sessions": `) || strings.Contains(line, ": redispool:") {
			t.Errorf("%q does not say which pool", line)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%d faults, want 3: %v", len(lines), err)
	}
	if _, err = redispool.New(redispool.Config{}); strings.Contains(fmt.Sprint(err), "new ") {
		t.Errorf("without a name: %v", err)
	}
}
