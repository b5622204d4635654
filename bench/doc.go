// Package bench measures linecard as an operator would meet it: a run starts the servers as processes of their own from the binary that
// runs the bench, or finds them elsewhere, drives them over TCP with the engine of bench/swarm in further processes or on further
// machines, and reads from the kernel what the servers' processes were charged for. README.md says how to run it and what each figure
// means.
//
// # Threads
//
// A run is one goroutine that gives orders to the fleet and waits. The fleet calls the recorder about once a second from a goroutine of
// its own; what they share is under the recorder's mutex. Others live as long as one order: profiles, a cut beside talk, strangers.
//
// # Files
//
//	options.go  what can be asked for            run.go       a run's life: check, servers, clients, report
//	system.go   servers here or elsewhere        daemon.go    one server process
//	account.go  what servers use and hold        recorder.go  a look at all of it each second, windows
//	precheck.go what the machine must have       progress.go  how far a phase is
//	traffic.go  a load of messages, measured     profile.go, shares.go   what costs what
//	peers.go    other servers, byte budgets
//	replicas.go a cluster's processes, by bench/cluster
//	density.go density_after.go storm.go strangers.go route.go offline.go slow.go soak.go   the scenarios
//	replicated.go failover.go replay.go   the scenario cluster
//	media.go web.go mediaserver.go nginx.go   the scenario media: servers of files, ours and another
//	relay.go coturn.go   the scenario relay: bench/relay against relays of packets, ours and another
package bench
