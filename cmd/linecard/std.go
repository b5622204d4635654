package main

import "io"

// Std is a command's standard streams, so that tests can run commands without a process.
type Std struct {
	In       io.Reader
	Out, Err io.Writer
}

// The exit codes besides 0.
const (
	exitFailed = 1
	exitUsage  = 2
)

// exitError is an error with the exit code of its process: 1 for a failure, 2 for wrong usage; an error of another type is 1. main
// prints err in one line on standard error; a nil err prints nothing.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }
