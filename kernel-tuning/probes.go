package tuning

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// probe looks at what is no single setting. The probes of one system are empty on the other.
func (h *host) probe(p plan) []Finding {
	list := []Finding{h.memoryFor(p)}
	if p.Sessions > 0 {
		list = append(list, h.descriptors(p))
	}
	if p.Allocations > 0 {
		list = append(list, h.relayDescriptors(p))
	}
	list = append(list, h.swap())
	if h.os == "linux" {
		list = append(list, h.tracking(p), h.queues(p))
	}
	return list
}

// memoryFor compares the memory that is free with what the sessions take.
func (h *host) memoryFor(p plan) Finding {
	f := Finding{Knob: "memory", Need: Must, Have: "-", Want: ">= " + mib(p.bytes()),
		Why: fmt.Sprintf("A session costs the kernel %d B and a gateway at most %d B.", kernelBytes, gatewayBytes)}
	switch {
	case p.Sessions == 0:
		f.Why = fmt.Sprintf("An allocation costs the kernel and turnd %d B.", allocationBytes)
	case p.Pair:
		f.Why = fmt.Sprintf("A session costs the kernel %d B and a gateway at most %d B, its client here %d B.", kernelBytes, gatewayBytes, clientBytes)
	}
	have, err := p.Memory, error(nil)
	if h.os == "linux" {
		have, err = h.meminfo("MemAvailable")
	}
	text := mib(have)
	if group := h.groupMemory(); err == nil && group < have {
		have, text = group, mib(group)+" for this control group"
	}
	return f.compare(have, p.bytes(), text, err)
}

// groupMemory is the least memory limit of this process's control group (version 2) and those above it, which counts sockets of the
// kernel, too.
func (h *host) groupMemory() int64 {
	least := int64(math.MaxInt64)
	text, err := os.ReadFile(h.path("/proc/self/cgroup"))
	if err != nil || h.os != "linux" {
		return least
	}
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for ; ok && strings.HasPrefix(group, "/"); group = path.Dir(group) {
			most, err := h.file("/sys/fs/cgroup" + path.Join(group, "memory.max"))
			if n, bad := strconv.ParseInt(most, 10, 64); err == nil && bad == nil { // "max" is no number
				least = min(least, n)
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}

// compare fills in what a system has and whether it is enough.
func (f Finding) compare(have, want int64, text string, err error) Finding {
	switch {
	case err != nil:
		f.State = Unknown
	case have < want:
		f.State, f.Have = Bad, text
	default:
		f.Have = text
	}
	return f
}

func mib(n int64) string { return strconv.FormatInt(n>>20, 10) + " MiB" }

// descriptors compares the hard limit of open files of whoever runs this with what a gateway process needs. The soft limit does not
// matter: programs written in Go raise it to the hard one.
func (h *host) descriptors(p plan) Finding {
	f := Finding{Knob: "open files of this user", Need: Must, Have: "-", Why: "Each session is an open file of its gateway process."}
	limit, err := h.limit()
	if err != nil {
		f.State, f.Want = Unknown, ">= "+strconv.FormatInt(p.nofile(), 10)
		return f
	}
	f.Have = strconv.FormatInt(limit, 10)
	if limit <= spareFiles {
		f.State, f.Want = Bad, ">= "+strconv.FormatInt(spareFiles+1, 10)
		return f
	}
	needed := p.workersFor(limit)
	if p.Workers == 0 {
		f.Need, f.Want = Should, fmt.Sprintf("workers >= %d", spared(needed))
		if needed > 8*p.Cores {
			f.State = Bad
			f.Want = fmt.Sprintf(">= %d (or workers = %d)", p.spread(8*p.Cores)+spareFiles, spared(needed))
		}
		return f
	}
	f.Want = fmt.Sprintf(">= %d for %d workers", p.spread(survivors(p.Workers))+spareFiles, p.Workers)
	if needed > survivors(p.Workers) {
		f.State = Bad
	}
	if needed <= p.Workers {
		f.Need = Should // as long as none dies
	}
	return f
}

// relayDescriptors compares the same limit with what a turnd needs.
func (h *host) relayDescriptors(p plan) Finding {
	f := Finding{Knob: "open files of this user, for turnd", Need: Must, Have: "-", Want: ">= " + strconv.FormatInt(p.relayFiles(), 10),
		Why: "Each allocation is an open file, and each connection another one."}
	limit, err := h.limit()
	return f.compare(limit, p.relayFiles(), strconv.FormatInt(limit, 10), err)
}

func (h *host) limit() (int64, error) {
	if !h.live {
		return h.copiedLimit()
	}
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	return int64(min(r.Max, 1<<62)), nil
}

// copiedLimit reads a copy of a process's limits, for checks below a root.
func (h *host) copiedLimit() (int64, error) {
	text, err := os.ReadFile(h.path("/proc/self/limits"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			if f := strings.Fields(rest); len(f) >= 2 && f[1] != "unlimited" {
				return strconv.ParseInt(f[1], 10, 64)
			}
			return 1 << 62, nil
		}
	}
	return 0, errAbsent
}

// swap looks for swap space that would keep secrets in clear on a disk.
func (h *host) swap() Finding {
	f := Finding{Knob: "swap", Need: Should, Have: "none", Want: "none or encrypted",
		Why: "Keys of sessions and handshakes would be written to the disk in clear. An event loop that is swapped in stalls all of its sessions."}
	plain, all, err := h.swaps()
	switch {
	case errors.Is(err, errAbsent):
	case err != nil:
		f.State, f.Have = Unknown, "-"
	case len(plain) > 0:
		f.State, f.Have = Bad, strings.Join(plain, ", ")
	case len(all) > 0:
		f.Have = "encrypted: " + strings.Join(all, ", ")
	}
	return f
}

// swaps returns the swap devices and files that are not encrypted, and all.
func (h *host) swaps() (plain, all []string, err error) {
	name, field := "/proc/swaps", 0
	if h.os == "freebsd" {
		name = "/etc/fstab"
	}
	text, err := os.ReadFile(h.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, errAbsent
	}
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 3, h.os == "linux" && f[0] == "Filename", h.os == "freebsd" && (f[2] != "swap" || strings.HasPrefix(f[0], "#")):
			continue
		}
		all = append(all, f[field])
		if !h.encrypted(f[field]) {
			plain = append(plain, f[field])
		}
	}
	return plain, all, nil
}

// encrypted reports whether a swap device or file is known to keep nothing in clear: geli on freebsd; on linux dm-crypt or what lies on it,
// or zram, which is memory.
func (h *host) encrypted(device string) bool {
	if h.os == "freebsd" {
		return strings.HasSuffix(device, ".eli")
	}
	base := filepath.Base(device)
	if target, err := os.Readlink(h.path(device)); err == nil { // /dev/mapper/NAME is a link to ../dm-N
		base = filepath.Base(target)
	}
	if strings.HasPrefix(base, "zram") {
		backing, err := h.file("/sys/block/" + base + "/backing_dev")
		return err != nil || backing == "none"
	}
	var at unix.Stat_t
	if unix.Stat(h.path(device), &at) == nil && at.Mode&unix.S_IFMT == unix.S_IFREG {
		disk, err := os.Readlink(h.path(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(at.Dev), unix.Minor(at.Dev))))
		return err == nil && h.onCrypt(filepath.Base(disk))
	}
	return h.onCrypt(base)
}

// onCrypt reports whether a block device is dm-crypt, or lies on nothing else: a logical volume, a mirror.
func (h *host) onCrypt(name string) bool {
	if uuid, err := h.file("/sys/block/" + name + "/dm/uuid"); err == nil && strings.HasPrefix(uuid, "CRYPT-") {
		return true
	}
	under, err := filepath.Glob(h.path("/sys/block/" + name + "/slaves/*"))
	for _, u := range under {
		if !h.onCrypt(filepath.Base(u)) {
			return false
		}
	}
	return err == nil && len(under) > 0
}

// tracking looks whether every session would cost an entry of the connection tracking table.
func (h *host) tracking(p plan) Finding {
	f := Finding{Knob: "net.netfilter.nf_conntrack_max", Need: Must, Have: "not loaded", Want: "no tracking of the sessions",
		Why: "A full tracking table drops the packets of new connections. A tracked session costs 256 B, and each of its packets a look-up."}
	most, err := h.sysctl("net.netfilter.nf_conntrack_max")
	if err != nil {
		return f
	}
	used, err := h.sysctl("net.netfilter.nf_conntrack_count")
	if err != nil {
		return f
	}
	limit, err1 := strconv.ParseInt(most, 10, 64)
	n, err2 := strconv.ParseInt(used, 10, 64)
	f.Have = fmt.Sprintf("%s of %s used", used, most)
	switch {
	case err1 != nil || err2 != nil:
		f.State = Unknown
	case n == 0:
		f.Have = "nothing tracked"
	case limit < trackingWant(p):
		f.State, f.Want = Bad, fmt.Sprintf(">= %d, and no tracking of the port", trackingWant(p))
	}
	return f
}

// queues looks at each network card: as many receive queues as cores, or packets spread by software.
func (h *host) queues(p plan) Finding {
	f := Finding{Knob: "network queues", Need: Could, Have: "no card", Want: fmt.Sprintf("%d receive queues, or rps_cpus", p.Cores),
		Why: "A receive queue is handled by one core. With one queue that core does the work of the kernel for all sessions."}
	cards, err := filepath.Glob(h.path("/sys/class/net/*/device"))
	if err != nil || len(cards) == 0 {
		return f
	}
	var have []string
	for _, card := range cards {
		dir := filepath.Dir(card)
		receive, err := filepath.Glob(filepath.Join(dir, "queues", "rx-*"))
		if err != nil {
			continue
		}
		text := fmt.Sprintf("%s: %d", filepath.Base(dir), len(receive))
		if len(receive) < p.Cores && !h.spreads(receive) {
			f.State = Bad
		} else if len(receive) < p.Cores {
			text += " and rps"
		}
		have = append(have, text)
	}
	f.Have = strings.Join(have, ", ")
	return f
}

// spreads reports whether every one of the queues has a mask of cores that its packets are spread over.
func (h *host) spreads(queues []string) bool {
	for _, q := range queues {
		mask, err := os.ReadFile(filepath.Join(q, "rps_cpus"))
		if err != nil || strings.Trim(strings.TrimSpace(string(mask)), "0,") == "" {
			return false
		}
	}
	return len(queues) > 0
}
