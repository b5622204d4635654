//go:build !linux

package gateway

// threadNice: priorities are the process's here, so the pool leaves a core to the loops and yields after each job.
const threadNice = false

func lowerPriority() {}
