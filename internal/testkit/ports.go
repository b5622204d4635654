package testkit

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Ports that tests listen on, in blocks. They are below those that kernels give to connections: a process that was killed finds its port
// as it left it, however many connections others have made since. A block is one test process's, by a lock that the kernel lets go of
// at its end: packages are tested side by side.
const (
	firstPort  = 20000
	blockPorts = 150
	blocks     = 80
	ownBlocks  = 4 // of a process; then it begins anew, with ports of tests that have ended
)

var ports struct {
	mu    sync.Mutex
	next  int        // port to try
	end   int        // of the block
	block int        // to try next
	own   []int      // first ports of the blocks that are this process's
	turn  int        // how many blocks were gone through
	held  []*os.File // locks, never closed
}

// FreeAddr returns an address of the loopback interface on which nobody listens, and that was not returned for long.
func FreeAddr(t testing.TB) string {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for {
		if ports.next == ports.end {
			if len(ports.own) < ownBlocks {
				if err := claimPorts(); err != nil {
					t.Fatal(err)
				}
			}
			ports.next = ports.own[ports.turn%len(ports.own)]
			ports.end = ports.next + blockPorts
			ports.turn++
		}
		addr := fmt.Sprintf("127.0.0.1:%d", ports.next)
		ports.next++
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
}

// claimPorts takes a block that no other process has. Under mu.
func claimPorts() error {
	for ; ports.block < blocks; ports.block++ {
		f, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("linecard-test-ports-%d", ports.block)), os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			return err
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			f.Close()
			continue
		}
		ports.held, ports.own = append(ports.held, f), append(ports.own, firstPort+ports.block*blockPorts)
		ports.block++
		return nil
	}
	return fmt.Errorf("all %d blocks of ports are taken: they are locked by files linecard-test-ports-* in %s", blocks, os.TempDir())
}
