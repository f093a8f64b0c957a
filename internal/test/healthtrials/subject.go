package healthtrials

import (
	"context"
	"net/http"
	"time"
)

// Subject is one fresh instance of a library under trial. Methods that the library has no
// equivalent for return errors.ErrUnsupported, and handlers may be nil.
type Subject interface {
	// Add adds a check; trials call it before Start.
	Add(c Check) error
	// Remove takes a check out.
	Remove(ctx context.Context, name string) error
	// Start begins to run checks.
	Start(ctx context.Context) error
	// Stop ends everything.
	Stop(ctx context.Context) error
	// Drain tells the library that the service is about to stop.
	Drain() error
	// Ready and Live are its handlers with the settings it has by default.
	Ready() http.Handler
	Live() http.Handler
	// Causes says, as far as the library does, which failed checks the failure of the named one is
	// due to.
	Causes(name string) ([]string, error)
	// Observe tells the check what live traffic saw.
	Observe(name string, err error) error
	// Listen has f called for every change of a check, with its name.
	Listen(f func(check string)) error
	// Freeze makes the library's scheduler die.
	Freeze() error
}

// Check is what trials ask of a check. Zero values mean what the library does by default.
type Check struct {
	Name                               string
	Probe                              func(context.Context) error
	Interval, Timeout, RetryInterval   time.Duration
	MaxAge                             time.Duration
	FailureThreshold, SuccessThreshold int
	DependsOn                          []string
}

// Trial is one property.
type Trial struct {
	// Name says what must hold.
	Name string
	// Source is the public report or measurement it comes from; may be empty.
	Source string
	// Run tries a subject made by fresh.
	Run func(ctx context.Context, fresh func() Subject) error
	// Fatal is whether a subject that fails may take the process with it.
	Fatal bool
}

// All lists every trial.
func All() []Trial {
	return []Trial{
		{Name: "ready only after the first result", Run: ReadyOnlyAfterFirstResult},
		{Name: "a check that hangs from the start is not ready", Run: HangFromTheStart},
		{Name: "a check that begins to hang becomes not ready", Run: HangLater},
		{Name: "a check that hangs costs one goroutine", Run: HangCostsOneGoroutine},
		{Name: "a timeout leaks no goroutine", Source: "hellofresh/health-go#224", Run: TimeoutLeaksNothing},
		{Name: "a probe's context has its deadline", Source: "AppsFlyer/go-sundheit#39", Run: ProbeContextHasDeadline},
		{Name: "each check has its own timeout", Source: "spring-boot#43449", Run: TimeoutPerCheck},
		{Name: "a panic fails one check only", Run: PanicFailsOneCheck, Fatal: true},
		{Name: "runtime.Goexit fails one check only", Run: GoexitFailsOneCheck, Fatal: true},
		{Name: "failure threshold", Run: FailureThreshold},
		{Name: "success threshold", Run: SuccessThreshold},
		{Name: "a thousand checks spread evenly", Run: EvenSpread},
		{Name: "a verdict ages when the scheduler is dead", Source: "microsoft/healthcare-shared-components#1425", Run: VerdictAges},
		{Name: "a failing check is asked less and less often", Run: BacksOff},
		{Name: "an error of live traffic brings the check forward", Run: PassiveSignal},
		{Name: "the root cause is named", Run: RootCause},
		{Name: "application/health+json by Accept", Run: HealthJSON},
		{Name: "not ready when told to stop", Run: NotReadyWhenDraining},
		{Name: "error texts are hidden", Run: ErrorTextHidden},
		{Name: "removing a hung check twice returns", Source: "AppsFlyer/go-sundheit", Run: RemoveHungTwice},
		{Name: "a listener may call back", Source: "alexliesenfeld/health", Run: ListenerMayCallBack},
		{Name: "a change names its check", Source: "controller-runtime#1188", Run: ChangeNamesCheck},
		{Name: "liveness does not depend on checks", Source: "kubernetes#98557", Run: LivenessIgnoresChecks},
		{Name: "asking runs no check", Source: "aspnetcore#59561", Run: AskingRunsNoCheck},
		{Name: "stop returns while a check hangs", Run: StopReturnsWhileHung},
	}
}
