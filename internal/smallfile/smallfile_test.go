package smallfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/smallfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAFileOfTheLimitIsReadAndALongerOneIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	content := bytes.Repeat([]byte("hunter2 "), smallfile.Limit/8)
	for _, c := range []struct {
		content []byte
		refused bool
	}{{nil, false}, {[]byte("x"), false}, {content, false}, {append(content, 'x'), true}} {
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := smallfile.Read(path)
		if !c.refused && (err != nil || !bytes.Equal(got, c.content)) {
			t.Errorf("%d bytes: %d, %v", len(c.content), len(got), err)
		}
		if c.refused && (err == nil || got != nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "more than 1048576 bytes") ||
			strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%d bytes: %d, %v", len(c.content), len(got), err)
		}
	}
}

func TestALinkIsFollowed(t *testing.T) { // as Kubernetes mounts secrets
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "data"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("data", filepath.Join(dir, "link")); err != nil {
		t.Skip(err)
	}
	if got, err := smallfile.Read(filepath.Join(dir, "link")); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWhatIsNoFileIsNamed(t *testing.T) {
	dir := t.TempDir()
	if _, err := smallfile.Read(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for path, want := range map[string]string{dir: "it is a directory; it must be a regular file", os.DevNull: "it is a device or a socket"} {
		_, err := smallfile.Read(path)
		if e, ok := errors.AsType[*fs.PathError](err); !ok || e.Path != path || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
