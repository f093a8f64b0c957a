package main_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/grafana/dskit/modules"
	"github.com/grafana/dskit/services"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/poolkeeper/poolkeeper/internal/test/trials"
)

// peers are the libraries on trial, and the trials each passes. The trials are strict: what the
// tables of the peers' users call "partly" is a failure here.
var peers = map[string]struct {
	system func() trials.System
	passes []string
}{
	"fx":    {newFx, []string{"Order", "FailedStart", "Faults"}},
	"dskit": {newDskit, []string{"Order", "StopDuringStart", "ConcurrentStops"}},
}

// TestPeersFailTheTrials shows that the trials can fail. A trial runs in a process of its own,
// because a panic, or a hang, that a library does not contain takes the process with it.
func TestPeersFailTheTrials(t *testing.T) {
	if peer := os.Getenv("PEER"); peer != "" {
		stand(t, peers[peer].system, os.Getenv("TRIAL"))
		return
	}
	for name, peer := range peers {
		for _, trial := range trials.All() {
			t.Run(name+"/"+trial.Name, func(t *testing.T) {
				want := slices.Contains(peer.passes, trial.Name)
				passed, out := judge(t, name, trial.Name)
				for again := 0; want && !passed && again < 2; again++ { // in real time a busy machine can be what is late
					passed, out = judge(t, name, trial.Name)
				}
				if passed != want {
					t.Errorf("passed = %v, recorded is %v:\n%s", passed, want, out)
				}
				t.Logf("%s: passed = %v\n%s", trial.Title, passed, firstLines(out, 6))
			})
		}
	}
}

// unit is the length of a short wait in real time.
const unit = 150 * time.Millisecond

func stand(t *testing.T, system func() trials.System, name string) {
	t.Helper()
	for _, trial := range trials.All() {
		if trial.Name != name {
			continue
		}
		var notes trials.Record
		trial.On(&notes, unit, system)
		for _, f := range notes.Failures() {
			fmt.Println(f)
		}
		if len(notes.Failures()) == 0 {
			fmt.Println(passedLine)
		}
	}
}

const passedLine = "the trial was passed"

func judge(t *testing.T, peer, trial string) (passed bool, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestPeersFailTheTrials$")
	cmd.Env = append(os.Environ(), "PEER="+peer, "TRIAL="+trial)
	b, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return false, "hangs:\n" + string(b)
	}
	if err != nil {
		return false, fmt.Sprintf("takes the process down: %v\n%s", err, b)
	}
	return strings.Contains(string(b), passedLine), string(b)
}

func firstLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[:min(n, len(lines))], "\n")
}

// fxSystem gives the components to fx as constructors with named parameters, so that fx knows the
// graph.
type fxSystem struct {
	options []fx.Option
	names   []string
	app     *fx.App
}

func newFx() trials.System { return &fxSystem{} }

// fxNode is what a constructor provides.
type fxNode struct{ name string }

func (s *fxSystem) Add(name string, c trials.Component, dependsOn ...string) {
	in := []reflect.Type{reflect.TypeFor[fx.Lifecycle](), reflect.TypeFor[fx.Shutdowner]()}
	tags := []string{"", ""}
	for _, d := range dependsOn {
		in = append(in, reflect.TypeFor[*fxNode]())
		tags = append(tags, fmt.Sprintf("name:%q", d))
	}
	build := func(args []reflect.Value) []reflect.Value {
		lc, _ := reflect.TypeAssert[fx.Lifecycle](args[0])
		shutdowner, _ := reflect.TypeAssert[fx.Shutdowner](args[1])
		lc.Append(fx.Hook{OnStart: func(ctx context.Context) error {
			if c.Died != nil {
				go func() {
					if err := <-c.Died; err != nil {
						_ = shutdowner.Shutdown(fx.ExitCode(1))
					}
				}()
			}
			return c.Start(ctx)
		}, OnStop: c.Stop})
		return []reflect.Value{reflect.ValueOf(&fxNode{name})}
	}
	fn := reflect.MakeFunc(reflect.FuncOf(in, []reflect.Type{reflect.TypeFor[*fxNode]()}, false), build)
	s.options = append(s.options, fx.Provide(
		fx.Annotate(fn.Interface(), fx.ParamTags(tags...), fx.ResultTags(fmt.Sprintf("name:%q", name))),
	))
	s.names = append(s.names, name)
}

func (s *fxSystem) Start(ctx context.Context) error {
	for _, name := range s.names {
		s.options = append(s.options, fx.Invoke(
			fx.Annotate(func(*fxNode) {}, fx.ParamTags(fmt.Sprintf("name:%q", name))),
		))
	}
	s.app = fx.New(append(s.options, fx.WithLogger(func() fxevent.Logger { return fxevent.NopLogger }))...)
	if err := s.app.Err(); err != nil {
		return err
	}
	if err := s.app.Start(ctx); err != nil {
		return err
	}
	go func() { // what App.Run does
		if <-s.app.Wait(); s.app.Err() == nil {
			ctx, cancel := context.WithTimeout(context.Background(), s.app.StopTimeout())
			defer cancel()
			_ = s.app.Stop(ctx)
		}
	}()
	return nil
}

func (s *fxSystem) Stop(ctx context.Context) error {
	if s.app == nil {
		return errors.New("fx: Stop before New")
	}
	return s.app.Stop(ctx)
}

// dskitSystem gives the components to dskit's module manager.
type dskitSystem struct {
	modules *modules.Manager
	names   []string
	deps    map[string][]string
	manager *services.Manager
}

func newDskit() trials.System {
	return &dskitSystem{modules: modules.NewManager(log.NewNopLogger()), deps: map[string][]string{}}
}

func (s *dskitSystem) Add(name string, c trials.Component, dependsOn ...string) {
	s.modules.RegisterModule(name, func() (services.Service, error) {
		return services.NewBasicService(
			c.Start,
			func(ctx context.Context) error {
				select {
				case err := <-c.Died:
					return err
				case <-ctx.Done():
					return nil
				}
			},
			func(error) error { return c.Stop(context.Background()) }, // dskit gives no context
		), nil
	})
	s.names = append(s.names, name)
	s.deps[name] = dependsOn
}

func (s *dskitSystem) Start(ctx context.Context) error {
	for name, deps := range s.deps {
		if err := s.modules.AddDependency(name, deps...); err != nil {
			return err
		}
	}
	byName, err := s.modules.InitModuleServices(s.names...)
	if err != nil {
		return err
	}
	all := make([]services.Service, 0, len(byName))
	for _, service := range byName {
		all = append(all, service)
	}
	if s.manager, err = services.NewManager(all...); err != nil {
		return err
	}
	return services.StartManagerAndAwaitHealthy(ctx, s.manager)
}

func (s *dskitSystem) Stop(ctx context.Context) error {
	if s.manager == nil {
		return errors.New("dskit: Stop before Start")
	}
	if err := services.StopManagerAndAwaitStopped(ctx, s.manager); err != nil {
		return err
	}
	var errs []error
	for _, service := range s.manager.ServicesByState()[services.Failed] {
		if err := service.FailureCase(); !errors.Is(err, context.Canceled) { // that was the stop
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
