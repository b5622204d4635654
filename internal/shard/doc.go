// Package shard runs the raft groups of a daemon process.
package shard
