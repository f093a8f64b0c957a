package otelmetrics_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The code in docs/metrics.md for this module is, word for word, part of its examples.
func TestDocsShowCodeThatRuns(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, b := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(b[1], "otelmetrics.") {
			continue // of another module
		}
		blocks++
		if !strings.Contains(string(source), b[1]) {
			t.Errorf("not in example_test.go:\n%s", b[1])
		}
	}
	if blocks < 1 {
		t.Errorf("%d blocks of code", blocks)
	}
}
