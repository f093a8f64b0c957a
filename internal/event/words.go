package event

import (
	"errors"
	"log/slog"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/callsite"
	"github.com/poolkeeper/poolkeeper/internal/guard"
)

// The words for what happens in both pools. What happens in one of them alone has its words there.

// Why connections are replaced.
const (
	OnRequest   = "connections are replaced, because Reset was called"
	Demoted     = "connections are replaced: the server takes no writes any more, or not yet"
	RoleChanged = "connections are replaced: the server has become a primary, or is none any more"
	Broken      = "connections are replaced: they break, and the server refuses new ones"
	BrokenOnly  = "connections are replaced: they break, and the server answers on new ones only"
	Lost        = "connections are replaced: one broke under a caller, and another does not answer a ping"
	SilentOnly  = "connections are replaced: they are silent, and the server answers on new ones only"
)

// OfReset says that connections are replaced, why and how many. err may be nil.
func OfReset(why string, connections int, err error, attrs ...slog.Attr) Event {
	level := slog.LevelWarn
	if why == OnRequest {
		level = slog.LevelInfo
	}
	return Event{Kind: Reset, Level: level, Text: why, Err: err, Attrs: append(attrs, slog.Int("connections", connections))}
}

// OfDown says that callers fail from now on.
func OfDown(since time.Time, err error, attrs ...slog.Attr) Event {
	return Event{
		Kind: Down, Level: slog.LevelWarn, Text: "the server is down; callers fail at once until it is back", Err: err,
		Attrs: append(attrs, slog.Time("since", since)),
	}
}

// OfUp says that they do not any more.
func OfUp(down time.Duration, attrs ...slog.Attr) Event {
	return Event{
		Kind: Up, Level: slog.LevelInfo, Text: "the server is back",
		Attrs: append(attrs, slog.Duration("down_for", down.Round(time.Millisecond))),
	}
}

// OfStartWithout says that a pool starts although its server does not answer.
func OfStartWithout(err error) Event {
	return Event{Kind: StartFailed, Level: slog.LevelWarn, Text: "starting without the server", Err: err}
}

// OfWait says that a pool waits for its server before it starts: as a warning once, and then as a
// reminder.
func OfWait(attempt int, next time.Duration, err error) Event {
	e := Event{
		Kind: StartFailed, Level: slog.LevelWarn, Text: "waiting for the server", Err: err,
		Attrs: []slog.Attr{slog.Int("attempt", attempt), slog.Duration("retry_in", next.Round(time.Millisecond))},
	}
	if attempt > 1 {
		e.Level, e.Text = slog.LevelInfo, "still waiting for the server"
	}
	return e
}

// OfWaitOver says that the server a pool has waited for answers.
func OfWaitOver(attempts int, waited time.Duration) Event {
	return Event{
		Kind: Up, Level: slog.LevelInfo, Text: "the server answers",
		Attrs: []slog.Attr{slog.Int("attempts", attempts), slog.Duration("waited", waited.Round(time.Millisecond))},
	}
}

// OfPause says that callers wait from now on.
func OfPause(inUse int) Event {
	return Event{
		Kind: Paused, Level: slog.LevelInfo, Text: "paused: callers wait until Resume",
		Attrs: []slog.Attr{slog.Int("in_use", inUse)},
	}
}

// OfResume says that they go on. err is why the pause had to be given up; nil: it was not.
func OfResume(paused time.Duration, err error) Event {
	e := Event{
		Kind: Resumed, Level: slog.LevelInfo, Text: "resumed: callers go on", Err: err,
		Attrs: []slog.Attr{slog.Duration("paused_for", paused.Round(time.Millisecond))},
	}
	if err != nil {
		e.Level, e.Text = slog.LevelWarn, "the pause was given up: connections were still in use; callers go on"
	}
	return e
}

// OfReload says what has changed.
func OfReload(changes []poolkeeper.Change) Event {
	return Event{Kind: Reloaded, Level: slog.LevelInfo, Text: "the new configuration is in effect", Attrs: ofChanges(changes)}
}

// OfReloadRefused says why nothing has.
func OfReloadRefused(err error) Event {
	return Event{
		Kind: ReloadRefused, Level: slog.LevelWarn, Text: "the new configuration was rejected; the old one stays in effect", Err: err,
	}
}

// OfRenewal says which credentials or certificates have changed.
func OfRenewal(changes []poolkeeper.Change) Event {
	return Event{
		Kind: Renewed, Level: slog.LevelInfo,
		Text: "renewed credentials or certificates are in effect; connections opened with the old ones are replaced", Attrs: ofChanges(changes),
	}
}

// OfRenewalRefused says why they have not.
func OfRenewalRefused(err error) Event {
	return Event{
		Kind: RenewalRefused, Level: slog.LevelWarn, Text: "renewed credentials or certificates were rejected; the old ones stay in use", Err: err,
	}
}

// OfExpiry says that a certificate or a credential expires soon, or has expired.
func OfExpiry(e poolkeeper.Expiry, now time.Time) Event {
	what := map[string]string{
		poolkeeper.ExpiryClientCertificate: "the client certificate", poolkeeper.ExpiryServerCertificate: "the server's certificate",
		poolkeeper.ExpiryCA: "the authority of the server's certificate", poolkeeper.ExpiryCredentials: "the password",
	}[e.Kind]
	left := e.NotAfter.Sub(now).Round(time.Minute)
	out := Event{
		Kind: Expiry, Level: slog.LevelWarn, Text: what + " expires soon; renew it",
		Attrs: []slog.Attr{
			slog.String("what", e.Kind), slog.String("subject", e.Subject), slog.Time("not_after", e.NotAfter), slog.Duration("left", left),
		},
	}
	if now.After(e.NotAfter) {
		out.Level, out.Text = slog.LevelError, what+" has expired: new connections fail; renew it"
	}
	return out
}

// OfServerRenewal says that a server presents another certificate.
func OfServerRenewal(attrs ...slog.Attr) Event {
	return Event{Kind: Renewed, Level: slog.LevelInfo, Text: "the renewed certificate is presented from now on", Attrs: attrs}
}

// OfServerRenewalRefused says why a server does not.
func OfServerRenewalRefused(err error) Event {
	return Event{
		Kind: RenewalRefused, Level: slog.LevelWarn, Text: "the renewed certificate was rejected; the old one stays in use", Err: err,
	}
}

func ofChanges(changes []poolkeeper.Change) []slog.Attr {
	attrs := make([]slog.Attr, len(changes))
	for i, c := range changes {
		attrs[i] = slog.String(c.Field, c.From+" → "+c.To)
	}
	return attrs
}

// OfPanic says that a function of the service has panicked, or has ended its goroutine. err is of
// package guard.
func OfPanic(function string, err error) Event {
	e := Event{
		Kind: Panic, Level: slog.LevelError, Text: "a function of the service failed on a goroutine of the pool",
		Err: err, Attrs: []slog.Attr{slog.String("function", function)},
	}
	if p, ok := errors.AsType[*guard.Panic](err); ok {
		e.Attrs = append(e.Attrs, slog.String("stack", p.Stack))
	}
	return e
}

// OfLimit passes on a warning about the server's limits.
func OfLimit(warning string, attrs ...slog.Attr) Event {
	return Event{Kind: Limits, Level: slog.LevelWarn, Text: warning, Attrs: attrs}
}

// OfLimitsUnknown says that the limits could not be asked for.
func OfLimitsUnknown(err error) Event {
	return Event{Kind: Limits, Level: slog.LevelDebug, Text: "cannot compare the limits", Err: err}
}

// OfLeak names the holder of a connection held for longer than threshold.
func OfLeak(h poolkeeper.Holder, now time.Time, threshold time.Duration) Event {
	return Event{
		Kind: Leak, Holder: &h, Level: slog.LevelWarn, Text: "a connection is held for too long; is a Close missing?",
		Attrs: append(ofHolder(h, now), slog.Duration("threshold", threshold)),
	}
}

// OfReclaim names the holder of a connection that was taken away.
func OfReclaim(h poolkeeper.Holder, now time.Time, limit time.Duration) Event {
	return Event{
		Kind: Reclaimed, Holder: &h, Level: slog.LevelError, Text: "a connection was held beyond ReclaimAfter and has been taken away",
		Attrs: append(ofHolder(h, now), slog.Duration("reclaim_after", limit)),
	}
}

// OfUnread names the caller that closed a response before its end.
func OfUnread(h poolkeeper.Holder, now time.Time) Event {
	return Event{
		Kind: Misuse, Holder: &h, Level: slog.LevelWarn,
		Text:  "a response was closed before its end, so its connection cannot be used again; read it to the end",
		Attrs: ofHolder(h, now),
	}
}

func ofHolder(h poolkeeper.Holder, now time.Time) []slog.Attr {
	return []slog.Attr{
		slog.String("holder", h.Kind), slog.Duration("held", now.Sub(h.Since).Round(time.Millisecond)),
		slog.String("by", callsite.Of(h.Stack)), slog.String("stack", h.Stack),
	}
}
