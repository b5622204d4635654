// Package router is the daemon that leads shards of accounts: it owns the directory (handles, accounts, devices and their keys,
// invites), binds sessions to devices, checks every message against the recipient's device list, and hands it to the queue.
//
// # Threading
//
// A router hosts one raft group dir/N for each shard number that it was given, or is given later (OpenGroup). Everything of a group, durable directory and soft bindings
// alike, belongs to that group's shard goroutine (internal/shard); nothing here takes a lock for it. Stream readers only push
// envelopes into the group's inbox and note streams that came or went; the shard goroutine drains both in Turn. Durable changes go
// through Propose and come back in Done, on the same goroutine. Router's exported methods are safe for concurrent use.
//
// What must not be stale (binding, registration, link, unlink, a final "no such account") is answered after a commit or after
// verified leadership; both are shared by everything that waits in one turn.
//
// # Files
//
//	config.go      Config, its defaults and Validate
//	router.go      Router: New, Run, health; envelopes to inboxes
//	groups.go      groups that are opened and closed, streams that come and go; envelopes for groups of others
//	events.go      streams that came and went, for a shard goroutine
//	dirshard.go    dirShard: one group, the hooks of shard.Machine
//	dispatch.go    envelopes to the functions that handle them, answers of those that do not lead
//	directory.go   the replicated state machine: what each command does to the records
//	invite.go      the same for invites
//	command.go     codec of the commands in the log
//	record.go      codec of the records in the tables
//	pending.go     what waits for a commit or for verified leadership, and who is told
//	bind.go        bind, re-bind, unbind, displacement
//	binding.go     the table of bindings
//	gateways.go    peers by stream; gateways by id, their grace time, hello
//	attach.go      attachments towards the queue's leader: fresh, owed, re-sent in pages
//	register.go    registration, invites
//	members.go     the roster of the cluster: a record of dir/0, changed by announcements and operators, shown to the process
//	ticketkey.go   keys of resumption tickets: facts of dir/0, rotated, told to gateways
//	deliver.go     messages and read receipts: the checks, the hand-over to the queue
//	query.go       look-up, device list, link, unlink
//	abroad.go      messages and questions for other regions, and from there
//	drop.go        queues of unlinked devices, dropped until offline confirms
//	limits.go      token buckets and contacts in fixed tables
//	atrest.go      the fold alone, for data at rest
//	metrics.go     Prometheus metrics
package router
