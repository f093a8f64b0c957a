package main_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The program checks its own error; the tests see that it ends well, and that a person is told what
// matters.
func TestReportNamesWhatWentWrong(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "shutdown-lab")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for policy, wants := range map[string][]string{
		"abandon": {
			"4 of 7 components ok", "consumer   ABANDONED", "main.(*consumer).finishBatch", // the child goroutine's stack
			"mailer: stop", "assignment to entry in nil map", "at main.(*mailer).Stop (lab.go:",
			"1 of 20 connections still held", "The time went into: api → consumer → postgres",
		},
		"hold": {"postgres   HELD", `held open for "consumer", which hangs`},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			out, err := exec.CommandContext(t.Context(), program, "-on-hang", policy, "-budget", "3s").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range wants {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

func TestUnknownPolicyIsRefused(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "run", ".", "-on-hang", "ignore").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "it must be abandon or hold") {
		t.Fatalf("%v\n%s", err, out)
	}
}
