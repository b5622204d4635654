// Package testkit starts whole systems for tests from end to end: in one process, as the one process of `up`, or as separate
// processes, and kills them. What clients see goes into a history, which is judged (internal/history).
//
//	binary.go    builds the linecard binary once per test process
//	process.go   one child process: started, asked to stop, killed
//	system.go    a system under test in one of its shapes
//	cluster.go   the shape of several machines; moving.go: members that come and go under load
//	device.go    a client whose sends and receipts go into a history
//	raw.go       a client that says any bytes at any moment
//	crowd.go     sessions that must not notice what a test does to the server
//	lean.go      a client for load, without a history of its own
//	upgrade.go   a gateway process replaced by another one
//	metrics.go   scrapes
//	ports.go     where things listen
//	proc.go      what the kernel says of a process, and the size of a directory
//	history.go   the judge, by the names that the tests use
//
// Everything listens on ports of the loopback address that nobody else is given, keeps its files in the test's temporary
// directory and ends with the test. Only processes that the package started are signalled. Nothing here is safe for concurrent use
// unless it says so; History is.
package testkit
