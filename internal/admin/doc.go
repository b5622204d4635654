// Package admin is the operator's HTTP listener of a process: metrics, health, readiness, profiles and the few commands that
// change something.
//
//	/metrics       Prometheus
//	/healthz       200 while every event loop and shard goroutine turned within the last seconds, else 503 and the list
//	/readyz        200 while the process can serve: listening, not draining, leaders known, links up; else 503 and the list
//	/debug/pprof/  Go profiles
//
// It has no authentication: it listens on a loopback or management address. Every request has a deadline and a size limit.
// A Server's methods are safe for concurrent use once Serve runs; handlers are added before.
package admin
