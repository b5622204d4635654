package tuning

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// StateFile returns where Apply keeps what was, unless it is told otherwise: a place that a boot empties, as it ends what was applied.
func StateFile(system string) string {
	if system == "freebsd" {
		return "/var/run/linecard-tune.json"
	}
	return "/run/linecard-tune.json"
}

// Change is a setting that was changed, or would be.
type Change struct {
	// Knob is its name, Before and After are its values, single spaces between numbers.
	Knob   string `json:"knob"`
	Before string `json:"before"`
	After  string `json:"after"`
	// Earlier are values that applies before this one made. One of them is there if this one did not come to its end.
	Earlier []string `json:"earlier,omitempty"`
	// Err says why it was not changed; nil if it was.
	Err error `json:"-"`
}

// state is what Apply writes before it changes anything.
type state struct {
	OS      string   `json:"os"`
	Net     string   `json:"net,omitempty"` // linux: the network namespace, which has settings of its own
	Changes []Change `json:"changes"`       // in the order in which they were made
}

// lockState keeps others from a state file until what it returns is closed. What is locked is a file beside it that only its owner may
// open, since the state is replaced, and anybody who may open a file or directory may lock it.
func lockState(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("tuning: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("tuning: %s: another tune apply or undo is at work: %w", path, err), f.Close())
	}
	return f, nil
}

// loadState reads the state file of a system; one that is not there is empty.
func (h *host) loadState(path string) (state, error) {
	s := state{OS: h.os, Net: h.namespace()}
	text, err := readOwn(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("tuning: %w", err)
	}
	var old state
	switch err := json.Unmarshal(text, &old); {
	case err != nil:
		return s, fmt.Errorf("tuning: %s is no state of a tune apply: %w", path, err)
	case old.OS != s.OS:
		return s, fmt.Errorf("tuning: %s is of %s, not %s", path, old.OS, s.OS)
	case old.Net != s.Net:
		return s, fmt.Errorf("tuning: %s is of another network namespace; --state names a file for this one", path)
	}
	return old, nil
}

// maxState bounds what is read of a state file.
const maxState = 1 << 20

// readOwn reads a file that nobody but root and this user can have written: what it says is done with their rights.
func readOwn(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not hold it up
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s: others may have written it", path)
	}
	return io.ReadAll(io.LimitReader(f, maxState))
}

func (s *state) find(knob string) int {
	return slices.IndexFunc(s.Changes, func(c Change) bool { return c.Knob == knob })
}

// made reports whether a value is one that Apply has made.
func (c Change) made(value string) bool { return value == c.After || slices.Contains(c.Earlier, value) }

// note adds a change that is about to be made. What was before the first of several changes of a knob is what Undo goes back to, unless
// somebody else has changed it in between.
func (s *state) note(c Change) {
	i := s.find(c.Knob)
	switch {
	case i < 0:
		s.Changes = append(s.Changes, c)
	case s.Changes[i].made(c.Before):
		was := &s.Changes[i]
		was.Earlier, was.After = append(was.Earlier, was.After), c.After
	default:
		s.Changes[i] = c
	}
}

// settle says what has become of a change that was noted: the value that is there now, or nothing at all.
func (s *state) settle(c Change) {
	i := s.find(c.Knob)
	was := &s.Changes[i]
	switch n := len(was.Earlier); {
	case c.Err == nil:
		was.After, was.Earlier = c.After, nil
	case n > 0:
		was.After, was.Earlier = was.Earlier[n-1], was.Earlier[:n-1]
	default:
		s.Changes = slices.Delete(s.Changes, i, i+1)
	}
}

// save replaces the state file so that a crash leaves the old one or the new one; an empty state removes it.
func (s *state) save(path string) error {
	if len(s.Changes) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("tuning: %w", err)
		}
		return nil
	}
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return fmt.Errorf("tuning: %w", err)
	}
	if err := writeSynced(path+".new", append(text, '\n')); err != nil {
		return fmt.Errorf("tuning: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("tuning: %w", err)
	}
	return nil
}

// writeSynced makes a file anew: what lies there may be a link of somebody else's.
func writeSynced(path string, text []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
