package testkit

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clock moves the wall clock of one process. Linux has no time namespace for it, and setting the machine's would move everybody's; but a process
// reads it by a function that the kernel maps into each process, whose copy can be changed from outside, like a debugger's breakpoint. What runs is
// the binary as it is delivered.
type clock struct {
	mem    *os.File
	offset int64 // where the seconds are that are added
}

// ask is put behind the function's code: the system call, and then the offset added, if the call was for the wall clock.
//
//	mov eax, 228; syscall; test eax, eax; jne out; test edi, edi; jne out; mov rax, [rip+offset]; add [rsi], rax; xor eax, eax; out: ret
var ask = []byte{0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0x85, 0xc0, 0x75, 16, 0x85, 0xff, 0x75, 12, 0x48, 0x8b, 0x05, 10, 0, 0, 0, 0x48, 0x01, 0x06, 0x31, 0xc0,
	0xc3, 0, 0, 0, 0}

// newClock prepares a running process. Its clock is still right.
func newClock(pid int) (*clock, error) {
	lo, hi, err := vdso(pid)
	if err != nil {
		return nil, err
	}
	c := &clock{}
	if c.mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	image := make([]byte, hi-lo)
	if _, err := c.mem.ReadAt(image, lo); err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return nil, err
	}
	var entry int64
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			entry = int64(s.Value)
		}
	}
	end := int64(len(bytes.TrimRight(image, "\x00"))+15) &^ 15
	if entry == 0 || end+int64(len(ask))+8 > hi-lo {
		return nil, errors.New("no room in the kernel's page")
	}
	c.offset = lo + end + int64(len(ask))
	jump := binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(int32(end-entry-jumpSize)))
	defer signalTo(pid, syscall.SIGCONT)
	for !outside(pid, lo+entry, lo+entry+jumpSize) {
		signalTo(pid, syscall.SIGCONT)
		time.Sleep(time.Millisecond) // for the thread that is at the place, to go on
	}
	for _, w := range []struct {
		code []byte
		at   int64
	}{{binary.LittleEndian.AppendUint64(ask, 0), lo + end}, {jump, lo + entry}} {
		if _, err := c.mem.WriteAt(w.code, w.at); err != nil {
			return nil, err
		}
	}
	return c, nil
}

const jumpSize = 5

// signalTo sends a signal to a process of the test.
func signalTo(pid int, sig syscall.Signal) { _ = syscall.Kill(pid, sig) } // it may have ended, which the caller finds out by itself

// outside stops a process, and reports whether none of its threads is between two addresses.
func outside(pid int, from, to int64) bool {
	signalTo(pid, syscall.SIGSTOP)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		return true // it has ended
	}
	for _, task := range tasks {
		for {
			stat, err := os.ReadFile(task + "/stat")
			if _, state, ok := strings.Cut(string(stat), ") "); err != nil || ok && state[0] == 'T' {
				break
			}
			time.Sleep(100 * time.Microsecond) // the kernel stops threads one after the other
		}
		at, _ := os.ReadFile(task + "/syscall") // a thread that has ended is nowhere
		fields := strings.Fields(string(at))
		if len(fields) < 2 {
			continue
		}
		pc, err := strconv.ParseInt(strings.TrimPrefix(fields[len(fields)-1], "0x"), 16, 64)
		if err == nil && from <= pc && pc < to {
			return false
		}
	}
	return true
}

// vdso returns where the kernel's page is in a process.
func vdso(pid int) (lo, hi int64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "[vdso]") {
			_, err := fmt.Sscanf(line, "%x-%x", &lo, &hi)
			return lo, hi, err
		}
	}
	return 0, 0, errors.New("the kernel maps no functions into the process")
}

// step sets how far the clock is ahead of the machine's, in whole seconds.
func (c *clock) step(by time.Duration) error {
	_, err := c.mem.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(int64(by/time.Second))), c.offset)
	return err
}

// noClock says why newClock cannot work on this kind of machine; "": it can.
const noClock = ""
