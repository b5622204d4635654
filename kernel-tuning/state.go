package tuning

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// StateFile returns where Apply keeps what was, unless it is told otherwise.
func StateFile(system string) string {
	if system == "freebsd" {
		return "/var/db/linecard-tune.json"
	}
	return "/var/lib/linecard-tune.json"
}

// Change is a setting that was changed, or would be.
type Change struct {
	// Knob is its name, Before and After are its values, single spaces between numbers.
	Knob   string `json:"knob"`
	Before string `json:"before"`
	After  string `json:"after"`
	// Err says why it was not changed; nil if it was.
	Err error `json:"-"`
}

// state is what Apply writes before it changes anything.
type state struct {
	OS      string   `json:"os"`
	Changes []Change `json:"changes"` // in the order in which they were made
}

// loadState reads a state file; one that is not there is empty.
func loadState(path, system string) (state, error) {
	s := state{OS: system}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("tuning: %w", err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("tuning: %s is no state of a tune apply: %w", path, err)
	}
	if s.OS != system {
		return s, fmt.Errorf("tuning: %s is of %s, not %s", path, s.OS, system)
	}
	return s, nil
}

// note adds a change. What was before the first of several changes of a knob is what Undo goes back to.
func (s *state) note(c Change) {
	for i := range s.Changes {
		if s.Changes[i].Knob == c.Knob {
			s.Changes[i].After = c.After
			return
		}
	}
	s.Changes = append(s.Changes, c)
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
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
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

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
