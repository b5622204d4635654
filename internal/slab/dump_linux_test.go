package slab

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// TestSlotsStayOutOfCoreDumps looks for the kernel's "dd" flag on the map that a slot lies in.
func TestSlotsStayOutOfCoreDumps(t *testing.T) {
	s := newSlab(t, 1)
	_, _, p := mustAlloc(t, s)
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err) // every Linux that linecard is for has it
	}
	defer f.Close()
	inside := false
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var from, to uintptr
		if n, _ := fmt.Sscanf(sc.Text(), "%x-%x ", &from, &to); n == 2 {
			inside = from <= uintptr(unsafe.Pointer(p)) && uintptr(unsafe.Pointer(p)) < to
		}
		if flags, ok := strings.CutPrefix(sc.Text(), "VmFlags:"); ok && inside {
			if !strings.Contains(flags+" ", " dd ") {
				t.Fatalf("flags of the slot's map:%s", flags)
			}
			return
		}
	}
	t.Fatal("the slot's map, or its flags, are not in /proc/self/smaps")
}
