//go:build !linux

package mediad

import "os"

func datasync(file *os.File) error { return file.Sync() }
