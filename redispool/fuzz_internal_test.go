package redispool

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// A command comes back from the words that go-redis writes, and nothing else is one: what was read is
// written the same way. A command that is not complete is none.
func FuzzCommandsSurviveTheWire(f *testing.F) {
	f.Add("hello", "3", "*2\r\n$4\r\nPING\r\n$1\r\nx\r\n")
	f.Add("", "\r\n", "*1\r\n$9223372036854775807\r\n")
	f.Add("auth", "p", "*-1\r\n")
	f.Add("x", "y", "*0\r\n")
	f.Fuzz(func(t *testing.T, one, two, rest string) {
		whole := wire(one, two)
		words, left, ok := parsed(append(bytes.Clone(whole), rest...))
		if !ok || !slices.Equal(words, []string{one, two}) || string(left) != rest {
			t.Fatalf("%q: %q, %q, %v", whole, words, left, ok)
		}
		if name := commandName(whole); name != strings.ToLower(one) {
			t.Fatalf("%q is called %q", whole, name)
		}
		for n := range min(len(whole), 64) {
			if words, _, ok = parsed(whole[:n]); ok {
				t.Fatalf("%q of %q: %q", whole[:n], whole, words)
			}
		}
		words, left, ok = parsed([]byte(rest))
		if !ok {
			return
		}
		if again, _, _ := parsed(wire(words...)); !slices.Equal(again, words) || len(left) > len(rest) {
			t.Fatalf("%q reads as %q, and that as %q", rest, words, again)
		}
	})
}

// Wherever a server repeats a login, and whatever surrounds it, the answer that go-redis reads has none
// of it, is as long as before, and stays one line.
func FuzzAnswersToALoginShowNoPassword(f *testing.F) {
	f.Add("-ERR unknown command 'AUTH', with args beginning with: ", "'default' 'hunter2'", "\r\n")
	f.Add("-ERR unknown command `HELLO`, with args beginning with: ", "`3` `auth` `u` `hunter2`", ", \r\n+OK\r\n")
	f.Add("-ERR wrong", "hunter2", "\r\n-ERR unknown command 'auth', with args beginning with: 'x'\r\n")
	f.Fuzz(func(t *testing.T, before, args, after string) {
		for _, command := range []string{"auth", "AUTH", "hello", "HELLO"} {
			const secret = "hunter2secret"
			answer := []byte("-ERR unknown command '" + command + "', with args beginning with: " + one(args) + secret + one(before) + "\r\n" + after)
			size := len(answer)
			hideLogin(answer)
			line, rest, _ := bytes.Cut(answer, []byte("\r\n"))
			if bytes.Contains(line, []byte(secret)) || len(answer) != size || string(rest) != after {
				t.Fatalf("%q", answer)
			}
			if !bytes.HasPrefix(line, []byte("-ERR unknown command '"+command+"'")) {
				t.Fatalf("%q does not name the command that the server does not know", line)
			}
		}
		plain := []byte(before + args + after)
		hidden := bytes.Clone(plain)
		hideLogin(hidden)
		if text := strings.ToLower(string(plain)); !strings.Contains(text, "auth") && !strings.Contains(text, "hello") && !bytes.Equal(plain, hidden) {
			t.Fatalf("%q, which is about no login, becomes %q", plain, hidden)
		}
	})
}

// one returns the text as a server repeats it: Redis writes line breaks as blanks.
func one(text string) string { return strings.NewReplacer("\r", " ", "\n", " ").Replace(text) }

// What go-redis says about a URL is passed on only as names of parameters.
func FuzzFaultsOfURLsNameParametersOnly(f *testing.F) {
	f.Add("unexpected option: ", "a, b")
	f.Add("invalid ", "db number: hunter2")
	f.Add("invalid ", "URL hunter2")
	f.Add("unable to parse addr param: ", "hunter2")
	f.Fuzz(func(t *testing.T, kind, rest string) {
		said := describe(errors.New("redis: " + kind + rest)).Error()
		said = strings.TrimPrefix(said, "redispool: URL: ")
		if said == errURLSecret.Error() {
			return
		}
		for _, known := range []string{"unknown parameter ", "the value of ", "unix:// needs", "each addr is"} {
			if names, ok := strings.CutPrefix(said, known); ok {
				names = strings.TrimSuffix(names, " is not valid")
				if known == "unknown parameter " && !plainName.MatchString(strings.ReplaceAll(names, ", ", "_")) || known == "the value of " && !plainName.MatchString(names) {
					t.Fatalf("%q shows %q", kind+rest, names)
				}
				return
			}
		}
		if said != strings.TrimPrefix(errURLSecret.Error(), "redispool: URL: ") {
			t.Fatalf("%q", said)
		}
	})
}
