package sqlpool_test

//go:generate go run ./internal/gencombine

// feature is a set of optional interfaces of a driver's connection.
type feature int

const (
	featPrepareContext feature = 1 << iota
	featBeginTx
	featPinger
	featResetter
	featValidator
	featChecker
	featExecer // ExecerContext, or the deprecated Execer with featOldExecer
	featQueryer
	featOldExecer
	featOldQueryer

	allFeatures = featPrepareContext | featBeginTx | featPinger | featResetter | featValidator | featChecker | featExecer | featQueryer
)

// combinations are all sets that make sense: old interfaces only where the new ones are missing.
func combinations() []feature {
	var out []feature
	for f := range feature(1 << 10) {
		if f&featOldExecer != 0 && f&featExecer != 0 || f&featOldQueryer != 0 && f&featQueryer != 0 {
			continue
		}
		out = append(out, f)
	}
	return out
}
