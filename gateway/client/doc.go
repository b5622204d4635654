// Package client is the public Go client of linecard: it keeps a device's session with a gateway up, sends, receives, acknowledges
// and looks names up. It is what docs/protocol.md asks of a client, and the only package of linecard meant for other modules.
//
// A Home holds what a device must not forget: its static key, the roots it trusts, its number, the messages that are not acked yet
// and the last id received of every stream. Open starts a Client on it, which connects, binds or registers, and reconnects in the
// background until Close, or until the server says that it must not come back (see Client.Err).
//
// Promise: what Send returned for is stored by the server at least once, in order within a stream (this device, one recipient), across
// restarts and crashes of either side, as long as the Home survives; what Receive returns was never acknowledged by Message.Done on
// this Home before. A crash between the application's use of a message and Done shows that message again.
//
// Payloads are NOT end-to-end encrypted yet: the server can read them. See payload.go.
//
// # Threading
//
// All methods of Client, Home and Message are safe for concurrent use. A Client owns up to four goroutines, all gone when Close
// returns: run (connects, one attempt after the other, and is the writer of a bound session), a reader per connection, one that syncs a
// Home on disk, and one that waits for these. Client.mu guards everything that they share; a Home has its own lock, taken after it.
// Nothing is written to the network or synced to disk under Client.mu.
//
// # Files
//
//	options.go client.go   Options; Client: life cycle and state
//	reconnect.go           when to connect again: the policy for every reason
//	connect.go conn.go     dial, handshake, certificate; sealed frames
//	ticket.go              coming back by ticket
//	pace.go                how long a network lets a connection be silent
//	session.go writer.go   what is done with each stanza that arrives; what is written when
//	outbox.go stream.go    unacked messages: order, window, resends (pure, no clock, no I/O)
//	send.go answer.go      Send, copies, MarkRead; encoding, acks and refusals
//	inbox.go               deliveries: the id rule, Receive, Done, cumulative acks
//	query.go names.go      queries: look-up, device lists, link and unlink; names of accounts
//	grant.go relay.go      permissions for media, credentials for relays
//	home.go store.go journal.go record.go state.go   the Home: files, durability, what it remembers
//	roots.go               pinned roots, and the judgement of a server's certificate
//	payload.go             what stands in the ciphertext slot today
//	item.go                what transfers of files keep in the Home
//	upload.go fetch.go received.go   files: sent, fetched, and received but not fetched yet. Package media has format and transfer
//	errors.go
package client
