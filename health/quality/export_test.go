package quality

// What the tests of the score need.
const DefaultSlowLatency = defaultSlowLatency

// Score is the pure function behind [Reading.Score].
var Score = Policy.score
