package meter

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// ReadKernel reads the kernel's memory. Slabs by cache are readable by the administrator only; everything else by everybody.
func ReadKernel() (Kernel, error) {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel memory: %w", err)
	}
	k := Kernel{
		Slab: number(info, "Slab:") << 10, PageTables: number(info, "PageTables:") << 10, Vmalloc: number(info, "VmallocUsed:") << 10,
		PerCPU: number(info, "Percpu:") << 10, Available: number(info, "MemAvailable:") << 10,
	}
	page := int64(os.Getpagesize())
	if slabs, err := os.ReadFile("/proc/slabinfo"); err == nil {
		var free int64
		k.Caches, free = parseSlabinfo(string(slabs), page)
		k.Slab -= free
	}
	stat, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return k, nil // a kernel without networking
	}
	for line := range bytes.Lines(stat) {
		f := bytes.Fields(line)
		for i := 1; i+1 < len(f); i++ {
			if string(f[i]) == "mem" {
				pages, _ := strconv.ParseInt(string(f[i+1]), 10, 64)
				k.Sockets += pages * page
			}
		}
	}
	return k, nil
}
