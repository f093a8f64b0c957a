package poolkeeper_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

func TestHeldErrorNamesFiveHoldersAndCountsTheRest(t *testing.T) {
	now := time.Now()
	for want, n := range map[string]int{"cut off 1 command: ": 0, " held by conn for 1s by ": 1, "; and 2 more: ": 7} {
		var list []poolkeeper.Holder
		for i := range n {
			list = append(list, poolkeeper.Holder{Kind: poolkeeper.KindConn, Since: now.Add(-time.Duration(i+1) * time.Second)})
		}
		e := &poolkeeper.HeldError{Pool: "orders", Commands: 1, Holders: list, Cut: n, Time: now, Err: context.DeadlineExceeded}
		got := e.Error()
		if !strings.Contains(got, want) || strings.Count(got, "conn for ") != min(n, 5) || strings.Contains(got, "more") != (n > 5) {
			t.Errorf("of %d: %q", n, got)
		}
	}
}

func TestHeldErrorSaysWhatWasCutOff(t *testing.T) {
	for want, e := range map[string]poolkeeper.HeldError{
		"cut off 2 connections":                                     {Cut: 2},
		"cut off 1 connection, cannot cut off 3 more,":              {Cut: 1, Left: 3},
		"cannot cut off 1 connection":                               {Left: 1},
		"cut off 3 commands and 1 waiting caller and 2 connections": {Commands: 3, Waiting: 1, Cut: 2},
		"callers were still waiting or at work":                     {},
	} {
		e.Pool, e.Err = "orders", context.DeadlineExceeded
		if got := e.Error(); got != `poolkeeper: stop "orders": `+want+": context deadline exceeded" {
			t.Errorf("%q, want %q in it", got, want)
		}
	}
}
