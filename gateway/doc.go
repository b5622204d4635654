// Package gateway is the daemon that clients connect to: it accepts TCP, runs the Noise handshake, keeps one session per device,
// forwards what clients send to routers and offlines as envelopes, and writes deliveries. It never blocks and never stores.
//
// # Threads
//
// Each gnet event loop owns its connections, its slab of sessions, its outboxes and its timing wheels; nothing of that is
// touched by another goroutine and there is no lock around it. Everybody else posts: a link's reader puts envelopes into the
// loop's inbox, the uplink and others put notices into its mailbox, the ticker (gnet's OnTick, one goroutine) asks for a turn. A
// loop drains all of it in one task of its own, does a few steps of handshakes, and then writes: one write for each session that
// got something. What loops share is atomic (routes, counters) or a short mutex on the path of a handshake (source tables).
//
// # What a session costs
//
// A session is one pointer-free slot of 128 bytes outside the heap, a gnet connection without its addresses (272 bytes in two objects), two
// table entries, and one timer of 16 bytes. It borrows nothing while it is idle: buffers, outboxes and handshake objects belong to the
// loop or to the handshake.
//
// # Files
//
//	gateway.go   New, Run, health            config.go    Config                   listen.go    addresses, reserving the port
//	events.go    gnet's callbacks            loop.go      a loop's state, its turn mailbox.go   notices and envelopes for a loop
//	handshake.go before message 3            steps.go     Diffie-Hellman           admission.go limits on strangers, session cap
//	resume.go    tickets: opened, answered, given
//	binding.go   message 3 to bound          session.go   the slot                 closing.go   how a session ends
//	inbound.go   frames from a client        dispatch.go  stanzas from a client    query.go     queries
//	media.go     grants                      relay.go     credentials for relays
//	window.go    what is unanswered          limits.go    token arithmetic         partial.go   unfinished frames
//	tidy.go      letting go of buffers       backlog.go   bytes that sockets did not take
//	uplink.go    routes, envelopes out       downlink.go  envelopes in             rebind.go    sweeps over all sessions
//	outbox.go    packing, sealing, writing   keepalive.go timers                   drain.go     going down in order
//	share.go     a worker's part of the machine's configuration
//	supervisor.go workers' slots and restart      roll.go      rolling restart
//	worker.go    a worker process as the supervisor sees it
//	seat.go      a worker process's own end       totals.go   summed metrics, checks and pages of workers
//	handover.go  live sessions leave for another process      takeover.go  and come from one
//	departure.go sessions go off their loop       arrival.go   sessions that came find a place
//	handover_conn.go the messages between the two             handover_record.go a session in them
//	gnetbuffers.go what gnet has buffered for a connection
//	metrics.go   what is counted             logger.go    gnet's log and ours      proxy.go     clients behind a balancer
package gateway
