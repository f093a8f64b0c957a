package config_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/config"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// version is a file that is good. Its last reference is to a file of its own.
type version struct {
	one, two int
	check    string // the content of the file that it refers to
}

// stage is a directory as kubelet mounts a ConfigMap: service.yaml and the files that it refers to
// are links through ..data, which is swapped for all of them at once.
type stage struct {
	root  string
	links int
}

func (s *stage) text(v version) string {
	return fmt.Sprintf("http:\n  one: {base_url: 'http://one', max_open: %d}\n  two: {base_url: 'http://two', max_open: %d, check_path: {file: %q}}\nhealth: {interval: 1s}\n",
		v.one, v.two, filepath.Join(s.root, "..data", "check"))
}

// swap puts another directory in place of the one that is mounted.
func (s *stage) swap(t *testing.T, text, check []byte) {
	t.Helper()
	s.links++
	dir := filepath.Join(s.root, fmt.Sprintf("..%d", s.links))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"service.yaml": text, "check": check} {
		if content == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	next := filepath.Join(s.root, "..data_tmp")
	if err := os.Symlink(filepath.Base(dir), next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(s.root, "..data")); err != nil {
		t.Fatal(err)
	}
}

// Whatever happens to the files, in whatever order and at whatever moment of a trial: between trials
// exactly one good version is in effect as a whole, and the last good one is so in the end.
func TestOneVersionIsInEffectAsAWhole(t *testing.T) {
	seeds := 6
	if os.Getenv("POOLKEEPER_FULL") != "" {
		seeds = 60
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { hostileSequence(t, rand.New(rand.NewPCG(uint64(seed), 1))) }) //nolint:gosec // a seed
		})
	}
}

func hostileSequence(t *testing.T, r *rand.Rand) {
	t.Helper()
	s := &stage{root: t.TempDir()}
	good := []version{{20, 20, "/a"}, {30, 40, "/a"}, {30, 40, "/b"}, {25, 20, "/b"}}
	now := good[0]
	s.swap(t, []byte(s.text(now)), []byte(now.check))
	rig := newRigAt(t, filepath.Join(s.root, "..data", "service.yaml"))
	var did []string
	for range 12 {
		v := good[r.IntN(len(good))]
		text, check := []byte(s.text(v)), []byte(v.check)
		what := r.IntN(12)
		switch what {
		case 0, 1, 2, 3: // the swap of a good ConfigMap
		case 4:
			text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
		case 5:
			text = append([]byte("\ufeff"), text...)
		case 6:
			text = text[:len(text)/2] // half written
		case 7:
			check = nil // the reference leads nowhere
		case 8:
			text = nil
		case 9:
			text = append(text, bytes.Repeat([]byte("# x\n"), 10<<20/4)...)
		case 10:
			text = bytes.Replace(text, []byte("max_open"), []byte("max_open: 1, max_open"), 1) // a key twice
		case 11:
			text = append(text, 0xff, 0xfe)
		}
		did = append(did, fmt.Sprintf("%d:%v", what, v))
		s.swap(t, text, check)
		time.Sleep(time.Duration(r.Int64N(int64(2*soak + 4*every))))
		synctest.Wait()
		if p := rig.watcher.State().Phase; p == "watching" || p == "refused" {
			if got := rig.version(t); !slices.Contains(good, got) {
				t.Fatalf("%v is in effect in phase %s, which no file said: %v\n%s", got, p, did, rig.log.String())
			}
		}
	}
	last := good[r.IntN(len(good))]
	s.swap(t, []byte(s.text(last)), []byte(last.check))
	time.Sleep(2 * (soak + 4*every))
	synctest.Wait()
	if st, got := rig.watcher.State(), rig.version(t); got != last || st.Err != nil || st.Phase != "watching" {
		t.Errorf("%v is in effect (%s, %v), want %v: %v\n%s", got, st.Phase, st.Err, last, did, rig.log.String())
	}
	if c, _ := rig.reg.Health().Report().Check("config/file"); c.Status != health.StatusPass {
		t.Errorf("the check is %s", c.Status)
	}
}

// version returns what is in effect.
func (r *rig) version(t *testing.T) version {
	t.Helper()
	var v version
	for name, into := range map[string]*int{"one": &v.one, "two": &v.two} {
		if _, err := fmt.Sscan(r.maxOpen(t, name), into); err != nil {
			t.Fatal(err)
		}
	}
	c, err := r.file.HTTP("two")
	if err != nil {
		t.Fatal(err)
	}
	v.check = setting(t, c, "check_path")
	return v
}

// What editors and other systems put into a file is either read as it was meant, or named.
func TestForeignTextsAreReadOrNamed(t *testing.T) {
	const plain = "redis:\n  a:\n    url: redis://h\n    max_open: 7\n"
	for name, tt := range map[string]struct{ text, fault string }{
		"a byte order mark":         {"\ufeff" + plain, ""},
		"ends of lines of Windows":  {strings.ReplaceAll(plain, "\n", "\r\n"), ""},
		"ends of lines of old Macs": {strings.ReplaceAll(plain, "\n", "\r"), ""},
		"no end of the last line":   {strings.TrimSpace(plain), ""},
		"spaces at ends of lines":   {strings.ReplaceAll(plain, "\n", "  \n"), ""},
		"a tab":                     {"redis:\n\ta:\n\t\turl: redis://h\n", "service.yaml:2:"},
		"a tab after a key":         {strings.Replace(plain, "max_open: 7", "max_open:\t7", 1), ""},
		"UTF-16":                    {"\xff\xfe" + strings.Join(strings.Split(plain, ""), "\x00"), "UTF-8"},
		"Latin-1":                   {plain + "# caf\xe9\n", "UTF-8"},
		"a key twice":               {plain + "    max_open: 8\n", "is given twice, first in line 4"},
		"a section twice":           {plain + "redis: {}\n", "is given twice, first in line 1"},
		"a non-breaking space":      {strings.Replace(plain, "max_open: 7", "max_open: \u00a07", 1), "must be a whole number"},
		"a document with an end":    {"---\n" + plain + "...\n", ""},
		"a directive":               {"%YAML 1.2\n---\n" + plain, "directives"},
	} {
		f, err := config.Load(write(t, tt.text), config.Logger(testkit.Silent()))
		switch {
		case err == nil && tt.fault == "":
			p, missing := f.Redis("a")
			if missing != nil || setting(t, p, "max_open") != "7" {
				t.Errorf("%s: it is read as something else: %v", name, missing)
			}
			_ = f.Abort()
		case err == nil:
			_ = f.Abort()
			t.Errorf("%s is accepted", name)
		case tt.fault == "" || !strings.Contains(err.Error(), tt.fault):
			t.Errorf("%s: %v, want %q", name, err, tt.fault)
		}
	}
}
