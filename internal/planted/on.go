//go:build planted

package planted

import (
	"fmt"
	"os"
	"slices"
	"sync"
)

// Built says that this build has the bugs in it.
const Built = true

var active = chosen()

// chosen reads the variable once. A name that is not in the list is a mistake of who set it: a suite that ran without its bug would
// prove nothing.
func chosen() Bug {
	b := Bug(os.Getenv(Variable))
	if b != "" && !slices.Contains(All(), b) {
		panic(fmt.Sprintf("%s=%s: there is no such bug", Variable, b))
	}
	return b
}

var told sync.Once

// On reports whether b is planted in this process, and says so the first time that it is.
func On(b Bug) bool {
	if b != active {
		return false
	}
	told.Do(func() { fmt.Fprintf(os.Stderr, "%s%s\n", AtWork, b) })
	return true
}
