package peer

// Words are those of one driver's configuration.
type Words struct {
	Want     Protocol
	UseTLS   string // how to turn TLS on: "use rediss:// in URL"
	UsePlain string // how to turn it off
}

// Mismatch says how what listens at an address differs from what a pool expects there.
type Mismatch struct {
	TLS     bool   // the two differ in TLS, and not in the protocol
	Finding string // ends an error: "a PostgreSQL server answers at this address"
	Advice  string // what to look at first
}

// Compare returns how found differs from what a pool expects that uses TLS if secure. It reports
// false if it does not differ, or if nothing is known.
func (w Words) Compare(found Protocol, secure bool) (Mismatch, bool) {
	switch {
	case found == Unknown, found == TLS && secure:
		return Mismatch{}, false
	case found == w.Want && w.Want == Redis && secure:
		return Mismatch{
			TLS: true, Finding: "the server answers without TLS on this port",
			Advice: "this port does not speak TLS: give the port that does, or " + w.UsePlain,
		}, true
	case found == w.Want:
		return Mismatch{}, false // PostgreSQL and MySQL negotiate TLS, and say themselves what they lack
	case found == TLS:
		return Mismatch{
			TLS: true, Finding: "the server speaks TLS on this port, and the client does not",
			Advice: "this port speaks TLS: " + w.UseTLS,
		}, true
	default:
		return Mismatch{
			Finding: article(found) + string(found) + " server answers at this address, not " + string(w.Want),
			Advice:  "another kind of server listens there, " + string(found) + ": check host and port of URL",
		}, true
	}
}

func article(p Protocol) string {
	if p == HTTP || p == SSH {
		return "an "
	}
	return "a "
}
