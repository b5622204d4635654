package testkit

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Proc returns a file of the process's directory in Linux's /proc.
func (p *Process) Proc(name string) []byte {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID(), name))
	if err != nil {
		p.t.Fatalf("%s does not run: %v", p.name, err)
	}
	return b
}

// ProcNumber returns the number behind a name in a file of /proc that has one on each line, such as status, io or smaps_rollup.
func (p *Process) ProcNumber(file, name string) int64 {
	p.t.Helper()
	for line := range strings.Lines(string(p.Proc(file))) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == name {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return n
		}
	}
	p.t.Fatalf("no %s in %s of %s", name, file, p.name)
	return 0
}

// Tasks returns the names of the process's threads.
func (p *Process) Tasks() []string { return p.entries("task") }

// Descriptors counts the process's open sockets and its other open files.
func (p *Process) Descriptors() (sockets, files int) {
	p.t.Helper()
	for _, fd := range p.entries("fd") {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.PID(), fd))
		if err != nil {
			continue // closed meanwhile
		}
		if strings.HasPrefix(to, "socket:") {
			sockets++
		} else {
			files++
		}
	}
	return sockets, files
}

func (p *Process) entries(dir string) (names []string) {
	p.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", p.PID(), dir))
	if err != nil {
		p.t.Fatalf("%s does not run: %v", p.name, err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// DirSize sums the sizes of the files below dir. A file that goes while it looks counts nothing.
func DirSize(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}
