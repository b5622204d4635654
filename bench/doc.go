// Package bench measures linecard as an operator would meet it: each benchmark starts the real binary as a process of its own, drives
// it over TCP, and reports the CPU time that the server's processes were charged for by the kernel, per unit of work. README.md has
// the figures, the commands and how to read them.
//
// # Load
//
// The load comes from the test's process, which shares the machine with the server. Its client is not gateway/client but testkit.Lean:
// the same frames and stanzas in the same order, packed into frames as gateway/client packs them, without a Home, an outbox and their
// goroutines, so that most of a small machine is left to the server. Nothing is sent again: whatever is refused, closed, delivered
// twice or out of order fails the benchmark.
//
// # Threads
//
// A client has one goroutine, its reader, which also writes what it was made to say; the pacer of the benchmarks at a fixed rate
// writes too. The client's mutex guards the writing half, and the state of a pair is under the mutex of its sender.
//
// # Files
//
//	main_test.go      flags, the table at the end        usage_test.go    CPU and memory of processes, from /proc
//	system_test.go    the server under load, its cost    profile_test.go  pprof
//	pair_test.go      sender and recipient               pairs_test.go    many pairs: closed loop, fixed rate
//	handshake_test.go message_test.go offline_test.go memory_test.go codec_test.go   the benchmarks
package bench
