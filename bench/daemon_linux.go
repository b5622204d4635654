package bench

import "syscall"

// endsWithUs has the kernel end a server when this process dies without having ended it. An interrupt of the terminal goes to this process
// alone, which ends the servers in order.
func endsWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
