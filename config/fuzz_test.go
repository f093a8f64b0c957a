package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/config"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// Whatever a reference leads to: no fault shows it, in whatever key it is, and a file that is accepted
// prints none of it.
func FuzzReferencesAreNotShown(f *testing.F) { // INV-12
	f.Add("redis://:", "@h:port", "")
	f.Add("", "", "")
	f.Add("!\x02\x10", "", "")
	f.Add("h:1, ", " ,", "")
	f.Add("host=h port=x password='", "'", "sslmode: x")
	f.Add("amqp://u:", "@h", "redis: {")
	f.Add("u:", "@tcp(h:1)/d?tls=nonsense", "\"\n")
	f.Add("http://u:", "\t@h", "max_open: x")
	dir := f.TempDir()
	held, path := filepath.Join(dir, "value"), filepath.Join(dir, "service.yaml")
	f.Fuzz(func(t *testing.T, before, after, tail string) {
		const hidden = "hunter2secret"
		if err := os.WriteFile(held, []byte(before+hidden+after), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{
			"redis: {a: {url: %s}}", "redis: {a: {url: redis://h, check_command: %s}}", "postgres: {a: {url: %s}}", "mysql: {a: {url: %s}}",
			"http: {a: {base_url: %s, check_path: /x}}", "http: {a: {base_url: http://h, hosts: [%s]}}",
			"http: {a: {base_url: http://h, hosts: %s}}",
		} {
			text := fmt.Sprintf(key, fmt.Sprintf("{file: %q}", held)) + "\n" + tail
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			file, err := config.Load(path, config.Logger(testkit.Silent()))
			if shown := fmt.Sprintf("%v %+v %v", err, err, file); strings.Contains(shown, hidden) {
				t.Errorf("%s with %q: %s", text, before+hidden+after, shown)
			}
			if file != nil {
				_ = file.Abort()
			}
		}
	})
}

// Whatever happens to a file that is watched, one of its versions is in effect as a whole, and the last
// one in the end.
func TestAWatchedFileIsInEffectAsAWholeWhateverHappens(t *testing.T) {
	testkit.Slow(t)
	rapid.Check(t, func(rt *rapid.T) { watchedFileIsInEffect(t, rt) })
}

func FuzzAWatchedFileIsInEffectAsAWholeWhateverHappens(f *testing.F) {
	fuzzing.Bubble(f, watchedFileIsInEffect)
}

func watchedFileIsInEffect(t *testing.T, rt *rapid.T) {
	t.Helper()
	type edit struct {
		Text  int
		After time.Duration
	}
	versions := []string{
		small, large, tiny, "http: {one: {base_url: x}}", "{", "", strings.Replace(large, "max_open: 40", "max_open: 40, start: start-degraded", 1),
		strings.ReplaceAll(large, "max_open: 40", "max_open: 40, max_idle: 50"),
	}
	edits := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) edit {
		return edit{rapid.IntRange(0, len(versions)-1).Draw(rt, "text"), time.Duration(rapid.IntRange(0, 45).Draw(rt, "s")) * time.Second}
	}), 1, 12).Draw(rt, "edits")
	stage := rapid.SampledFrom([]int{10, 100}).Draw(rt, "stage")
	fault := ""
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, config.Stage(stage), config.Instance("pod-a"))
		for i, e := range edits {
			r.replace(t, versions[e.Text])
			time.Sleep(e.After)
			synctest.Wait()
			sizes, s := r.maxOpen(t, "one")+" "+r.maxOpen(t, "two"), r.watcher.State()
			switch sizes {
			case "20 20", "30 40", "30 1":
			default:
				fault = fmt.Sprintf("edit %d: %s are in effect", i, sizes)
				return
			}
			if (s.Phase == "refused") != (s.Err != nil) {
				fault = fmt.Sprintf("edit %d: %+v", i, s)
				return
			}
		}
		r.replace(t, large)
		time.Sleep(4*every + 3*soak + 3*every)
		synctest.Wait()
		if sizes, s := r.maxOpen(t, "one")+" "+r.maxOpen(t, "two"), r.watcher.State(); sizes != "30 40" || s.Err != nil {
			fault = fmt.Sprintf("in the end %s are in effect, %+v", sizes, s)
		}
	})
	if fault != "" {
		rt.Fatal(fault)
	}
}
