// Package disktest has disks for tests: one whose power can be cut before any chosen sync, and a search of every byte of every file.
// It holds what the tests of shard, router and offline share about power loss and scrubbing; nothing else imports it.
//
// A kill of a process cannot show a missing fsync, because what it wrote stays in the kernel. Disk keeps apart what was written and
// what was synced; after the cut syncs succeed and do nothing, as for a process that does not know yet that its machine is off, and
// PowerOn goes back to what was synced. What was answered before Cut turned true must be there then.
package disktest
