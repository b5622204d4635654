//go:build !linux

package shard

import "github.com/cockroachdb/pebble/vfs"

func fallocate(vfs.File, int64) bool { return false }
