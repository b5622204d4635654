package tuning

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// host reads one system: the live one, or files below a root directory.
type host struct {
	os, root string
	live     bool
	listed   map[string]string // freebsd: what sysctl said
}

// errAbsent says that this system, or this network namespace, has no such setting, or does not show it.
var errAbsent = errors.New("not here")

// open prepares to read the system that t names.
func open(t Target) (*host, error) {
	h := &host{os: t.system(), root: t.Root, live: t.Root == ""}
	if h.live && h.os != runtime.GOOS {
		return nil, fmt.Errorf("tuning: this system is %s, not %s: only a copy of its files can be looked at", runtime.GOOS, h.os)
	}
	if h.os == "freebsd" {
		return h, h.list()
	}
	if _, err := os.Stat(h.path("/proc/sys")); err != nil {
		return nil, fmt.Errorf("tuning: no sysctls to read: %w", err)
	}
	return h, nil
}

// path is where a file of the system is.
func (h *host) path(name string) string { return filepath.Join("/", h.root, name) }

// sysctl returns a setting's value with single spaces.
func (h *host) sysctl(name string) (string, error) {
	if h.os == "freebsd" {
		v, ok := h.listed[name]
		if !ok {
			return "", errAbsent
		}
		return v, nil
	}
	return h.file(sysctlPath(name))
}

// sysctlPath is the file of a linux sysctl.
func sysctlPath(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }

// file returns a small file's content with single spaces.
func (h *host) file(name string) (string, error) {
	text, err := os.ReadFile(h.path(name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", errAbsent
	}
	if err != nil {
		return "", err
	}
	return strings.Join(strings.Fields(string(text)), " "), nil
}

// namespace names the network namespace of this thread, which reads and writes its sysctls; "" in a copy, and on freebsd.
func (h *host) namespace() string {
	link, err := os.Readlink(h.path("/proc/thread-self/ns/net"))
	if err != nil {
		return ""
	}
	return link
}

// read returns what the system has for a knob.
func (h *host) read(k Knob) (string, error) {
	switch k.where {
	case sysFile:
		text, err := h.file(k.Name)
		return selected(text), err
	case bootSetting:
		if k.reads == "" {
			return "", errAbsent
		}
		return h.sysctl(k.reads)
	default:
		return h.sysctl(k.Name)
	}
}

// selected is the choice in brackets of a file like "always [madvise] never", or all of it.
func selected(text string) string {
	if _, rest, ok := strings.Cut(text, "["); ok {
		if choice, _, ok := strings.Cut(rest, "]"); ok {
			return choice
		}
	}
	return text
}

// list reads all of freebsd's sysctls at once: what sysctl -a prints.
func (h *host) list() error {
	var text []byte
	var err error
	if h.live {
		text, err = exec.Command("/sbin/sysctl", "-a").Output()
	} else {
		text, err = os.ReadFile(h.path("sysctl.txt"))
	}
	if err != nil {
		return fmt.Errorf("tuning: no sysctls to read: %w", err)
	}
	h.listed = parseSysctls(text)
	if len(h.listed) == 0 {
		return errors.New("tuning: sysctl -a told nothing")
	}
	return nil
}

// parseSysctls reads "name: value" lines; lines of values with several lines are left out.
func parseSysctls(text []byte) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(string(text)) { // one of them may be as long as a device tree
		name, value, ok := strings.Cut(line, ":")
		if ok && name != "" && !strings.ContainsAny(name, " \t") {
			all[name] = strings.Join(strings.Fields(value), " ")
		}
	}
	return all
}

// planOf checks a target, opens its system, and fills in what the target leaves to it.
func planOf(t Target) (h *host, p plan, err error) {
	if err = t.check(); err != nil {
		return nil, plan{}, err
	}
	if h, err = open(t); err != nil {
		return nil, plan{}, err
	}
	p, err = h.fill(t)
	return h, p, err
}

// fill completes a target by what the system says.
func (h *host) fill(t Target) (plan, error) {
	p := plan{Target: t, Page: int64(os.Getpagesize())}
	p.OS = h.os
	if p.Memory == 0 {
		n, err := h.memory()
		if err != nil {
			return p, err
		}
		p.Memory = n
	}
	if p.Cores == 0 {
		p.Cores = h.cores()
	}
	return p, nil
}

func (h *host) memory() (int64, error) {
	if h.os == "freebsd" {
		text, err := h.sysctl("hw.physmem")
		if err != nil {
			return 0, fmt.Errorf("tuning: hw.physmem: %w", err)
		}
		return strconv.ParseInt(text, 10, 64)
	}
	return h.meminfo("MemTotal")
}

// meminfo returns a line of /proc/meminfo in bytes.
func (h *host) meminfo(name string) (int64, error) {
	text, err := os.ReadFile(h.path("/proc/meminfo"))
	if err != nil {
		return 0, fmt.Errorf("tuning: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("tuning: /proc/meminfo has no %s", name)
}

// cores is the number of processors: of this process where it looks at its own system, else what the copy says.
func (h *host) cores() int {
	n := 0
	switch {
	case h.os == "freebsd":
		if text, err := h.sysctl("hw.ncpu"); err == nil {
			n, _ = strconv.Atoi(text)
		}
	case !h.live:
		if text, err := h.file("/sys/devices/system/cpu/online"); err == nil {
			n = countCores(text)
		}
	}
	if n < 1 {
		return runtime.NumCPU()
	}
	return n
}

// countCores counts what a list like "0-3,8" names; 0 if it is none.
func countCores(list string) (n int) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, ok := strings.Cut(part, "-")
		if !ok {
			last = first
		}
		a, err1 := strconv.Atoi(first)
		b, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || b < a {
			return 0
		}
		n += b - a + 1
	}
	return n
}
