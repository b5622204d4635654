// Package turnd relays packets between devices that cannot reach each other: a TURN server (RFC 5766, RFC 6156's errors) and a STUN server
// (RFC 5389), over UDP, TCP, TLS and DTLS. pion/turn has the lives of allocations; nothing reaches it unfiltered, and no payload
// passes it.
//
// # One packet
//
//	client -> listener -> front.packet -> ChannelData, Send: looked up in the front's table, sent from the relay's socket to the peer
//	                                   -> Binding: answered
//	                                   -> requests: nonce, credentials (gate.go) -> the front's queue -> owner, quota, peers (admit.go)
//	                                      -> permissions, channels: granted (gate.go)
//	                                      -> allocations: rewritten for pion -> its answer: what it grants is learnt -> client
//	peer   -> relay    -> its channel, or its permission -> ChannelData or a Data indication -> client
//
// # Strangers
//
// What a source has not shown credentials for is limited in number, and over UDP in bytes: answers are never larger than requests, but for a
// small bounded greeting (sources). Answers to strangers have no phrases and no software name in them.
//
// # Threads
//
// Each socket and each connection has a goroutine that reads; it relays payloads and finds out whose a request is. What changes something
// is on one goroutine for each front, the one that pion reads with, so that nothing changes between the look at a request and what pion does.
// Each relay has one that reads what peers send: pion's reader of that allocation. What packets need to know (allocation.peers) is replaced
// and never changed.
//
// On Linux the sockets of UDP listeners, and the relays of their clients, are read by pollers instead: one goroutine for each socket of an
// address, which reads and sends in batches (batch, inbox, outbox). Nothing on a poller waits, and it allocates nothing for a packet; pion's
// reader only waits for the end of the relay's socket. A relay of a client over TCP, TLS or DTLS is a plain socket with a goroutine of
// its own, since the connection may make it wait.
//
// # Files
//
//	server.go   Server: New, Run, Ready, drain      config.go       configuration
//	turn.go     whether it goes on
//	reasons.go  why something was refused           metrics.go, traffic.go  counters, lines for audit
//	listen.go   listeners of connections            connection.go   one of them
//	dtls.go     DTLS                                hello.go        who may begin it
//	udp.go      listeners of UDP
//	doors.go    limits of connections               front.go        what pion reads and writes
//	gate.go     requests: whose are they            admit.go        may they
//	pion.go     pion itself, and new relays         reservation.go  ports that are kept
//	stun.go     messages                            allocation.go   what packets need to know
//	relay.go    a relayed address                   socket.go       UDP, packet by packet
//	source.go   limits of strangers                 quota.go        limits of accounts
//	policy.go   which peers                         credentials.go, nonce.go  who is who
//	keys.go     secrets, as routers tell them
//	poll_linux.go   who reads UDP                   port_linux.go   its sockets
//	batch_linux.go  packets in, many at a time      outbox_linux.go packets out
//	nap_linux.go    when they wait for more
//	fast_linux.go   the way of payloads there       fast_other.go   there is none elsewhere
package turnd
