package meter

import (
	"slices"
	"strconv"
	"strings"
)

// Kernel is memory that the kernel holds, in bytes.
type Kernel struct {
	Slab       int64            // objects in use in caches of small objects; with their free ones where Caches is nil
	Caches     map[string]int64 // the same by cache; nil when only the administrator may look, or the kernel does not tell
	PageTables int64
	Vmalloc    int64 // mapped areas, thread stacks and large descriptor tables among them
	PerCPU     int64
	Sockets    int64 // pages of socket buffers, TCP and UDP
	Available  int64 // what the kernel says could still be used by programs: a check from the other end
}

// Total is everything that grows with connections; Available is not part of it.
func (k Kernel) Total() int64 { return k.Slab + k.PageTables + k.Vmalloc + k.PerCPU + k.Sockets }

// Since returns the difference; caches that did not change are left out.
func (k Kernel) Since(before Kernel) Kernel {
	d := Kernel{
		Slab: k.Slab - before.Slab, PageTables: k.PageTables - before.PageTables, Vmalloc: k.Vmalloc - before.Vmalloc,
		PerCPU: k.PerCPU - before.PerCPU, Sockets: k.Sockets - before.Sockets, Available: k.Available - before.Available,
	}
	if k.Caches == nil || before.Caches == nil {
		return d
	}
	d.Caches = map[string]int64{}
	for name, bytes := range k.Caches {
		if bytes != before.Caches[name] {
			d.Caches[name] = bytes - before.Caches[name]
		}
	}
	return d
}

// Cache is one cache of the kernel.
type Cache struct {
	Name  string
	Bytes int64
}

// Largest returns the n largest caches, the largest first.
func (k Kernel) Largest(n int) []Cache {
	var all []Cache
	for name, bytes := range k.Caches {
		all = append(all, Cache{name, bytes})
	}
	slices.SortFunc(all, func(a, b Cache) int {
		if a.Bytes != b.Bytes {
			if a.Bytes > b.Bytes {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all[:min(n, len(all))]
}

// lookedAt is the cache that grows by looking at processes.
const lookedAt = "proc_inode_cache"

// parseSlabinfo reads Linux's /proc/slabinfo, version 2: bytes of the objects in use by cache, an object's share of its pages being its
// size, and the bytes of pages whose objects are free. Those stay behind when connections end, and the next ones take them, so that
// counting pages would call a second run cheaper than the first.
func parseSlabinfo(text string, page int64) (used map[string]int64, free int64) {
	used = map[string]int64{}
	for line := range strings.Lines(text) {
		// name active objects size per-slab pages-per-slab : tunables a b c : slabdata active-slabs slabs shared
		f := strings.Fields(line)
		if len(f) < 16 || f[6] != ":" || f[11] != ":" {
			continue // header
		}
		active, perSlab, pages, slabs := number64(f[1]), number64(f[4]), number64(f[5]), number64(f[14])
		switch {
		case f[0] == lookedAt:
			free += slabs * pages * page
			continue
		case perSlab == 0:
			continue
		}
		used[f[0]] = active * pages * page / perSlab
		free += slabs*pages*page - used[f[0]]
	}
	return used, free
}

func number64(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64) // the kernel writes numbers
	return n
}

// parseZones reads FreeBSD's `vmstat -z`: name, size, limit, used and free of each zone; both used and free items take memory.
func parseZones(text string) map[string]int64 {
	zones := map[string]int64{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.FieldsFunc(rest, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
		if !ok || len(f) < 4 {
			continue
		}
		size, errS := strconv.ParseInt(f[0], 10, 64)
		used, errU := strconv.ParseInt(f[2], 10, 64)
		free, errF := strconv.ParseInt(f[3], 10, 64)
		if errS == nil && errU == nil && errF == nil {
			zones[strings.TrimSpace(name)] = size * (used + free)
		}
	}
	return zones
}
