// Package meter reads what processes, the kernel and the machine use: CPU time and memory by process, kernel memory by kind, and what a
// reader of figures must know about the machine that made them.
//
// Linux is read from /proc. On other systems processes are read through ps and kernel memory through vmstat, which know less: resident
// instead of proportional memory, CPU in hundredths of a second, no system calls. Figures say so (Memory.Shared).
//
// Nothing here keeps state or starts goroutines; every function is safe for concurrent use.
//
//	usage.go      CPU time and memory of processes       process_linux.go, process_other.go   where they are read
//	kernel.go     kernel memory and its difference       kernel_linux.go, kernel_other.go     where it is read
//	machine.go    machine, software, settings            machine_linux.go, machine_other.go   where they are read
//	yardstick.go  one X25519 here and now
package meter
