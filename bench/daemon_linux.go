package bench

import "syscall"

// endsWithUs has the kernel end a server when this process dies without having ended it.
func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
