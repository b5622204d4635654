// Package node assembles daemons from a configuration: keys, links, shards, health, admin listener. It is the only package that
// imports the daemons; the commands and the end-to-end tests start processes through it.
//
//	config.go   the configuration of a process and what may be wrong with it
//	keys.go     root, certificate authority and the keys of a daemon: made, written, read
//	identity.go the node id: written once, read at each start; format.go: what may read the data, and whose they are
//	cluster.go  the roster kept, this member announced; placing.go: groups opened and closed by it; removal.go; dialling.go: links by it; gauges.go
//	enquirer.go what is asked of routers; operate.go: the commands of operators, joining.go: a directory becomes a member's
//	report.go   what a member tells operators; status.go: what they make of it
//	trial.go    a cluster on one machine, for a try: its files; trialrun.go: its processes
//	regions.go  the border of `up` and of its own process, and its links to other regions
//	disk.go     free space of the disks that the databases live on
//	node.go     New and Run: one process with any of the daemons
//	fsck.go     data at rest, checked; compare.go: held against another replica's
//	checkpoints.go  copies of the databases while they are in use, for backup.go: Backup and Restore; manifest.go: what is in a backup
//	runtime.go  GOGC and memory limit by what runs in the process
//	logger.go   lines on standard error, whether somebody reads them or not
//	health.go   what /healthz and /readyz say
//
// New builds everything that can fail at once; Run starts the goroutines and returns when all of them have ended.
package node
