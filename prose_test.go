package poolkeeper_test

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// widest is the most columns of a comment or of a line of the docs. Text is wrapped at 100.
const widest = 120

// banned are words that a reader has to learn before a sentence means something.
var banned = regexp.MustCompile(`(?i)\b(whoever|is wanted|are wanted|farewell|graves?|mourn\w*|husks?|comes to nothing|himself)\b`)

// Decisions of the past stay as they were written.
func isProse(file string) bool {
	return !strings.HasPrefix(file, "docs/adr/") && !strings.Contains(file, "testdata/") && file != "prose_test.go"
}

func TestProseIsNarrowAndPlain(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "*.go", "*.md").Output()
	if err != nil {
		t.Skip("not a git checkout: ", err)
	}
	for file := range strings.Lines(string(out)) {
		file = strings.TrimSpace(file)
		if isProse(file) {
			checkProse(t, file)
		}
	}
}

func checkProse(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return // removed, and not yet committed
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for n, fenced := 1, false; lines.Scan(); n++ {
		line := lines.Text()
		text := line
		if strings.HasSuffix(file, ".go") {
			comment := strings.TrimSpace(line)
			if !strings.HasPrefix(comment, "// ") || strings.Contains(file, "example") {
				continue // code in comments, and the output of examples
			}
			text = comment
		} else {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			if fenced || strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "|") {
				continue
			}
		}
		if width := utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    ")); width > widest {
			t.Errorf("%s:%d is %d columns wide; at most %d", file, n, width, widest)
		}
		if word := banned.FindString(text); word != "" {
			t.Errorf("%s:%d says %q; name the subject, in the field's words", file, n, word)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}
