package stacks_test

import (
	"context"
	"runtime/pprof"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/stacks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parkHere(entered, release chan struct{}) {
	entered <- struct{}{}
	<-release
}

func TestProfileShowsLabelsAndFramesOfChildrenToo(t *testing.T) {
	entered, release, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	awkward := "a \"b\"\n# labels: {}\t@\x00é"
	go pprof.Do(t.Context(), pprof.Labels("also", "x", "who", awkward), func(context.Context) {
		go func() {
			defer close(over)
			parkHere(entered, release)
		}()
	})
	<-entered
	defer func() { close(release); <-over }()

	found := false
	for _, g := range stacks.Profile() {
		if g.Labels["who"] != awkward {
			continue
		}
		for _, f := range g.Frames {
			if strings.HasSuffix(f.Function, "stacks_test.parkHere") {
				found = g.Count == 1 && strings.HasSuffix(f.File, "stacks_test.go") && f.Line > 0
			}
		}
	}
	if !found {
		t.Fatalf("no goroutine with the label in parkHere:\n%+v", stacks.Profile())
	}
}

func TestParseSkipsWhatItDoesNotKnow(t *testing.T) {
	text := "goroutine profile: total 3\n" +
		"#\t0x1\torphan+0x1\t\t/x.go:1\n" +
		"2 @ 0x1 0x2\n# labels: {\"k\":\"v\"}\n# something new\n#\t0x47b2a4\tmain.(*T).work[...]+0x24\t\t/src/a b.go:12\n#\tbad\n\n" +
		"x @ 0x1\n1 @ 0x3\n# labels: broken\n#\t0x1\tmain.main+0x1\t/src/m.go:x\n"
	got := stacks.Parse([]byte(text))
	if len(got) != 2 {
		t.Fatalf("%d groups, want 2: %+v", len(got), got)
	}
	want := stacks.Frame{Function: "main.(*T).work[...]", File: "/src/a b.go", Line: 12}
	if got[0].Count != 2 || got[0].Labels["k"] != "v" || len(got[0].Frames) != 1 || got[0].Frames[0] != want {
		t.Errorf("first group = %+v", got[0])
	}
	if got[1].Labels != nil || len(got[1].Frames) != 0 {
		t.Errorf("second group = %+v, want neither labels nor frames", got[1])
	}
}

func TestCallersBeginsAtTheCaller(t *testing.T) {
	frames := stacks.Callers(0)
	if len(frames) == 0 || !strings.HasSuffix(frames[0].Function, "TestCallersBeginsAtTheCaller") {
		t.Fatalf("first frame = %v", frames)
	}
	if s := stacks.Print(frames[:2]); strings.Count(s, "\n") != 1 || !strings.Contains(s, "stacks_test.go:") {
		t.Fatalf("Print = %q", s)
	}
}
