//go:build !linux

package meter

import (
	"fmt"
	"os/exec"
)

// ReadKernel reads the zones of the kernel's allocator, sockets' buffers among them.
func ReadKernel() (Kernel, error) {
	out, err := exec.Command("vmstat", "-z").Output()
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel memory: vmstat: %w", err)
	}
	k := Kernel{Caches: parseZones(string(out))}
	for _, bytes := range k.Caches {
		k.Slab += bytes
	}
	return k, nil
}
