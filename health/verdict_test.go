package health_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/fuzzing"
)

// naiveStatus says in full what the state machine says step by step: look at the whole history, and
// change sides after every run of contrary results that is long enough.
func naiveStatus(history []health.Outcome, failureThreshold, successThreshold int) (health.Status, bool) {
	up := func(o health.Outcome) bool { return o != health.Failed }
	if len(history) == 0 {
		return health.StatusUnknown, false
	}
	side := up(history[0])
	contrary := 0
	lastOfSide := history[0]
	for i := 1; i < len(history); i++ {
		if up(history[i]) == side {
			contrary, lastOfSide = 0, history[i]
			continue
		}
		contrary++
		need := failureThreshold
		if !side {
			need = successThreshold
		}
		if contrary == need {
			side, contrary, lastOfSide = !side, 0, history[i]
		}
	}
	switch {
	case !side:
		return health.StatusFail, contrary > 0
	case lastOfSide == health.Warned:
		return health.StatusWarn, contrary > 0
	default:
		return health.StatusPass, contrary > 0
	}
}

func TestThresholdsAgreeWithNaiveTwin(t *testing.T) {
	rapid.Check(t, thresholdsAgree)
}

func FuzzThresholdsAgreeWithNaiveTwin(f *testing.F) { fuzzing.Property(f, thresholdsAgree) }

func thresholdsAgree(t *rapid.T) {
	history := rapid.SliceOfN(rapid.SampledFrom([]health.Outcome{health.Passed, health.Warned, health.Failed}), 0, 40).Draw(t, "history")
	ft := rapid.IntRange(1, 5).Draw(t, "failureThreshold")
	st := rapid.IntRange(1, 5).Draw(t, "successThreshold")
	got, undecided := health.After(history, ft, st)
	want, wantUndecided := naiveStatus(history, ft, st)
	if got != want || undecided != wantUndecided {
		t.Fatalf("after %v with thresholds %d and %d: %v undecided %t, the naive twin says %v undecided %t",
			history, ft, st, got, undecided, want, wantUndecided)
	}
}

func TestFirstResultDecidesWhateverTheThresholds(t *testing.T) {
	for o, want := range map[health.Outcome]health.Status{
		health.Passed: health.StatusPass, health.Warned: health.StatusWarn, health.Failed: health.StatusFail,
	} {
		if got, undecided := health.After([]health.Outcome{o}, 5, 5); got != want || undecided {
			t.Errorf("first result %v: %v, undecided %t", o, got, undecided)
		}
	}
}
