//go:build unix

package lifecycle_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

func signalled() lifecycle.Config {
	cfg := quiet()
	cfg.Signals = []os.Signal{syscall.SIGUSR1}
	return cfg
}

func say(line string) { _, _ = os.Stdout.WriteString(line) }

func raise(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
}

func runInBackground(t *testing.T, reg *lifecycle.Registry) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- reg.Run(t.Context()) }()
	return done
}

func TestFirstSignalEndsRunCleanlyAndSignalsAreGivenBack(t *testing.T) {
	reg := lifecycle.New(signalled())
	seen := record(reg)
	f := &fake{}
	reg.Add("a", f)
	done := runInBackground(t, reg)
	eventually(t, "up", func() bool { return reg.Status().Phase == "up" })
	raise(t)
	if err := result(t, done); err != nil {
		t.Fatalf("Run = %v, want nil", err)
	}
	if f.Calls(event.PhaseStop) != 1 {
		t.Error("not stopped")
	}
	if e := eventOf[*event.SignalReceived](t, seen, ""); e.Signal != syscall.SIGUSR1 || e.Second {
		t.Errorf("event %v, second %v", e.Signal, e.Second)
	}
	// Without a listener the default action of SIGUSR1 would end the test. So listen, and check
	// that the signal arrives.
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGUSR1)
	defer signal.Stop(ch)
	raise(t)
	<-ch
}

func TestSecondSignalAbortsAndListsWhatIsStillUp(t *testing.T) {
	reg := lifecycle.New(signalled())
	seen := record(reg)
	hung, pool := &fake{OnStop: hangs()}, &fake{}
	defer hung.Release()
	reg.Add("pool", pool.As(aborts))
	reg.Add("hung", hung, lifecycle.WithDependencies("pool"))
	done := runInBackground(t, reg)
	eventually(t, "up", func() bool { return reg.Status().Phase == "up" })
	raise(t)
	eventually(t, "stopping", func() bool { return hung.Calls(event.PhaseStop) == 1 })
	began := time.Now()
	raise(t)
	err := result(t, done)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v after the second signal", took)
	}
	wantErr(t, err, lifecycle.ErrAborted)
	if s, ok := errors.AsType[*lifecycle.SignalError](err); !ok || s.Signal != syscall.SIGUSR1 {
		t.Errorf("no SignalError in %v", err)
	}
	wantText(t, err.Error(), `still up: "pool", "hung"`, `stop of "hung" failed`)
	if pool.Calls(event.PhaseAbort) != 1 {
		t.Error("pool was not aborted")
	}
	var second *event.SignalReceived
	for _, e := range seen.all() {
		if s, ok := e.(*event.SignalReceived); ok && s.Second {
			second = s
		}
	}
	if second == nil || strings.Join(second.StillUp, " ") != "pool hung" {
		t.Errorf("event %+v", second)
	}
}

func TestSignalDuringStartRollsBackCleanly(t *testing.T) { // INV-13
	reg := lifecycle.New(signalled())
	db, slow := &fake{}, &fake{OnStart: script{Delay: time.Hour}}
	reg.Add("db", db)
	reg.Add("slow", slow, lifecycle.WithDependencies("db"))
	done := runInBackground(t, reg)
	eventually(t, "starting", func() bool { return slow.Calls(event.PhaseStart) == 1 })
	raise(t)
	if err := result(t, done); err != nil {
		t.Errorf("Run = %v, want nil: it was asked to stop, and everything is down", err)
	}
	if db.Calls(event.PhaseStop) != 1 {
		t.Error("db was not stopped")
	}
}

func TestTwoSignalsDuringTheDrainDelaySkipIt(t *testing.T) {
	cfg := signalled()
	cfg.DrainDelay, cfg.ShutdownTimeout = time.Hour, 2*time.Hour
	reg := lifecycle.New(cfg)
	f := &fake{}
	reg.Add("pool", f.As(aborts|drains))
	done := runInBackground(t, reg)
	eventually(t, "up", func() bool { return reg.Status().Phase == "up" })
	raise(t)
	eventually(t, "draining", func() bool { return reg.Status().Phase == "closing" })
	raise(t)
	wantErr(t, result(t, done), lifecycle.ErrAborted)
	if f.Calls(event.PhaseAbort) != 1 || f.Calls(event.PhaseDrain) != 0 {
		t.Error("want Abort alone")
	}
}

// TestThirdSignalEndsTheProcess runs itself in a process of its own, because that is what ends.
func TestThirdSignalEndsTheProcess(t *testing.T) {
	if os.Getenv("LIFECYCLE_TEST_CHILD") == "1" {
		reg := lifecycle.New(lifecycle.Config{Logger: quiet().Logger, ShutdownTimeout: time.Hour})
		reg.Add("hung", lifecycle.Hooks{OnStop: func(context.Context) error {
			say("stopping\n")
			select {}
		}})
		reg.Subscribe(func(e event.Event) {
			switch e := e.(type) {
			case *event.AllUp:
				say("up\n")
			case *event.SignalReceived:
				if e.Second {
					say("second\n")
					select {} // keeps Run from returning for a moment
				}
			}
		})
		_ = reg.Run(context.Background())
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestThirdSignalEndsTheProcess$")
	cmd.Env = append(os.Environ(), "LIFECYCLE_TEST_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(testkit.Patience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	buf := make([]byte, 256)
	said := ""
	for _, word := range []string{"up", "stopping", "second"} {
		for !strings.Contains(said, word) {
			n, readErr := out.Read(buf)
			if readErr != nil {
				t.Fatalf("after %q: %v", said, readErr)
			}
			said += string(buf[:n])
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	err = cmd.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatalf("the process ended with %v", err)
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGTERM {
		t.Errorf("the process ended by %v, want SIGTERM's default action", exit)
	}
}

func TestAnOrdinaryShutdownLogsNoError(t *testing.T) {
	cfg, log := logged()
	cfg.Signals = []os.Signal{syscall.SIGUSR1}
	reg := lifecycle.New(cfg)
	reg.Add("api", (&fake{}).As(drains))
	reg.Subscribe(func(e event.Event) {
		if _, up := e.(*event.AllUp); up {
			_ = syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		}
	})
	if err := reg.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := log.String(); strings.Contains(s, "error=") || strings.Contains(s, "WARN") || !strings.Contains(s, `reason="received user defined signal 1"`) {
		t.Errorf("log:\n%s", s)
	}
}
