package redispool

import (
	"slices"
	"testing"
)

func TestCommandsAreReadAsTheyAreWritten(t *testing.T) {
	words := []string{"HELLO", "3", "auth", "app", "a \r\n b", ""}
	b := wire(words...)
	got, rest, ok := parsed(append(slices.Clone(b), "*1\r\n"...))
	if !ok || !slices.Equal(got, words) || string(rest) != "*1\r\n" {
		t.Errorf("%q, then %q: %v", got, rest, ok)
	}
	for n := range b {
		if got, _, ok := parsed(b[:n]); ok {
			t.Errorf("%q of a part", got)
		}
	}
	for b, want := range map[string]string{
		string(b): "hello", string(pingToken): "ping", "": "", "PING\r\n": "", "*1\r\n": "", "*1\r\n$9\r\nget": "", "*x\r\n$1\r\na": "",
	} {
		if name := commandName([]byte(b)); name != want {
			t.Errorf("the command of %q is %q", b, name)
		}
	}
}
