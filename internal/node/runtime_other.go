//go:build !freebsd

package node

func sysctlMemory() int64 { return 0 }
