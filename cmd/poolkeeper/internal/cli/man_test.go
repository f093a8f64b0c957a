package cli_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/cli"
)

const manDir = "../../man"

// The man pages in the repository are those of the commands.
func TestManPagesAreUpToDate(t *testing.T) {
	dir := t.TempDir()
	if *update {
		dir = manDir
	}
	if err := cli.WriteMan(dir); err != nil {
		t.Fatal(err)
	}
	names := func(dir string) (out []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	want := names(dir)
	if have := names(manDir); !slices.Equal(have, want) || len(want) < 4 {
		t.Fatalf("man has %v, want %v (go test -update)", have, want)
	}
	for _, name := range want {
		now, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		committed, err := os.ReadFile(filepath.Join(manDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(now) != string(committed) {
			t.Errorf("man/%s is not that of the command (go test -update)", name)
		}
	}
}

func TestCompletionKnowsCommandsAndFlags(t *testing.T) {
	r := run(t, nil, "__complete", "doctor", "--max")
	if r.code != cli.ExitOK || !strings.Contains(r.out, "--max-open") {
		t.Errorf("%d: %s", r.code, r.out)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := run(t, nil, "completion", shell); r.code != cli.ExitOK || !strings.Contains(r.out, "poolkeeper") {
			t.Errorf("%s: %d: %s", shell, r.code, r.err)
		}
	}
}

// The outputs in docs/doctor.md are those of the golden files.
func TestDocsShowTheGoldenFiles(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, part := range strings.Split(string(page), "<!-- ")[1:] {
		name, rest, _ := strings.Cut(part, " -->\n")
		want, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Error(err)
			continue
		}
		_, rest, _ = strings.Cut(rest, "```")
		_, block, _ := strings.Cut(rest, "\n")
		block, _, _ = strings.Cut(block, "```")
		if block != string(want) {
			t.Errorf("docs/doctor.md shows %s as\n%s\nwant\n%s", name, block, want)
		}
		shown++
	}
	if shown < 5 {
		t.Errorf("only %d outputs are shown", shown)
	}
}
