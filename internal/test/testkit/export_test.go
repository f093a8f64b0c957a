package testkit

// Claim tries to claim one port.
var Claim = claim

// GiveUp gives a claimed port back.
var GiveUp = giveUp
