package main

import "io"

// Std is a command's standard streams, so that tests can run commands without a process.
type Std struct {
	In       io.Reader
	Out, Err io.Writer
}

// Exit codes that scripts rely on.
const (
	exitFailed = 1
	exitUsage  = 2
)

// exitError is an error with the exit code of its process. main prints err in one line on standard error; a nil err prints nothing.
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

// usageError is an exitError of the code for wrong usage.
func usageError(err error) error { return exitError{code: exitUsage, err: err} }
