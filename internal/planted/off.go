//go:build !planted

package planted

// Built says that this build has the bugs in it.
const Built = false

// On reports whether b is planted in this process: never, in an ordinary build. The compiler inlines it and removes the bug.
func On(Bug) bool { return false }
