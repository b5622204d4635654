package slab

import "golang.org/x/sys/unix"

const adviceNoDump = unix.MADV_DONTDUMP
