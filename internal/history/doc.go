// Package history keeps what clients saw of their messages and judges it by the promises: what was acked arrives, in the order of its
// stream, once after the client's rule of ids; what was refused for good never arrives. The simulation (internal/simtest) and the tests
// of real processes (internal/testkit) have this one judge, so that both mean the same by a lost message.
//
//	history.go   what is noted, and what is judged at the moment it happens
//	judge.go     what can be judged only at the end
//
// A History is safe for concurrent use, starts no goroutine and reads no clock.
package history
