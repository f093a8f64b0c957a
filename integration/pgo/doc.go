// Package pgo tests that the books of sessions do not hang on what the compiler inlines.
//
// redispool tells go-redis' sessions apart by the exported methods that lead to them. A build with
// profile-guided optimization inlines other calls than an ordinary one: `make test-pgo` takes a
// profile of the code in question, and runs these tests, and those of redispool, built by it. `make
// test-noinline` does the same with a build that inlines none.
package pgo
