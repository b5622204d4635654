package tuning

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Apply sets every knob of the target's system that is not as wanted and can be set while it runs, and returns what it did in the
// order in which it did it. Nothing is lowered that somebody raised, nor the other way round. The values that were are in the file
// statePath before the first one changes, and stay there over several calls until Undo. A setting that the system refuses is a Change
// with an Err, the others are made; the error is nil only if all were. With dry nothing is changed and nothing written.
func Apply(t Target, statePath string, dry bool) ([]Change, error) {
	h, p, err := planOf(t)
	if err != nil {
		return nil, err
	}
	if dry {
		return h.pending(p)
	}
	if err := os.MkdirAll(filepath.Dir(statePath), 0o755); err != nil {
		return nil, fmt.Errorf("tuning: %w", err)
	}
	lock, err := lockState(statePath)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	s, err := h.loadState(statePath)
	if err != nil {
		return nil, err
	}
	list, err := h.pending(p)
	if err != nil || len(list) == 0 {
		return list, err
	}
	for _, c := range list {
		s.note(c)
	}
	if err := s.save(statePath); err != nil {
		return nil, err
	}
	failed := h.set(list)
	for _, c := range list {
		s.settle(c)
	}
	return list, errors.Join(failed, s.save(statePath))
}

// set makes changes, and notes in each what the system has then, which it may have rounded, or why it has not.
func (h *host) set(list []Change) (failed error) {
	for i, c := range list {
		if err := h.write(c.Knob, c.After); err != nil {
			list[i].Err = err
			failed = errors.Join(failed, fmt.Errorf("tuning: %s = %s: %w", c.Knob, c.After, err))
		}
	}
	if h.os == "freebsd" && h.live {
		if err := h.list(); err != nil {
			return errors.Join(failed, err)
		}
	}
	for i, c := range list {
		if k, ok := h.settable(c.Knob); ok && c.Err == nil {
			if have, err := h.read(k); err == nil {
				list[i].After = have
			}
		}
	}
	return failed
}

// settable returns the knob that Apply sets by a name, if there is one.
func (h *host) settable(name string) (Knob, bool) {
	table, err := knobs(h.os)
	if err != nil {
		return Knob{}, false
	}
	i := slices.IndexFunc(table, func(k Knob) bool { return k.Name == name && (k.where == runtimeSysctl || k.where == sysFile) })
	if i < 0 {
		return Knob{}, false
	}
	return table[i], true
}

// pending returns what is not as wanted and can be changed now.
func (h *host) pending(p plan) ([]Change, error) {
	table, err := knobs(h.os)
	if err != nil {
		return nil, err
	}
	var list []Change
	for _, k := range table {
		want := k.want(p)
		if want == "" || k.where != runtimeSysctl && k.where != sysFile {
			continue
		}
		have, err := h.read(k)
		if errors.Is(err, errAbsent) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("tuning: %s: %w", k.Name, err)
		}
		if !k.meets(have, want) {
			list = append(list, Change{Knob: k.Name, Before: have, After: k.rule.merge(have, want)})
		}
	}
	return list, nil
}

// Undo sets back what Apply has changed on the system below root ("": this one), the last change first, and returns what it did. A
// setting that is not what Apply made it any more was changed by somebody else and is left alone, with an Err that says so, and so is
// one that goes up only. What could not be set back for another reason stays in the state file; when all is done the file goes. Without
// a state file there is nothing to do.
func Undo(root, system, statePath string) ([]Change, error) {
	h, err := open(Target{OS: system, Root: root, Sessions: 1})
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(statePath); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	lock, err := lockState(statePath)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	s, err := h.loadState(statePath)
	if err != nil {
		return nil, err
	}
	var done, left []Change
	var failed error
	for _, c := range slices.Backward(s.Changes) {
		back := Change{Knob: c.Knob, Before: c.After, After: c.Before}
		back.Err = h.setBack(c)
		if back.Err != nil && !errors.Is(back.Err, errChanged) && !errors.Is(back.Err, errGrows) {
			left = append(left, c)
			failed = errors.Join(failed, fmt.Errorf("tuning: %s = %s: %w", c.Knob, c.Before, back.Err))
		}
		done = append(done, back)
	}
	slices.Reverse(left)
	s.Changes = left
	return done, errors.Join(failed, s.save(statePath))
}

var (
	errChanged = errors.New("it was changed since by somebody else, and is left as it is")
	errGrows   = errors.New("it goes up only; the next boot sets it back")
	errForeign = errors.New("it is nothing that apply sets: look at it, and set it back by hand")
)

func (h *host) setBack(c Change) error {
	k, ok := h.settable(c.Knob) // and nothing else: the file is a file, and this is root
	if !ok {
		return errForeign
	}
	have, err := h.read(k)
	switch {
	case err != nil:
		return err
	case have == c.Before:
		return nil
	case !c.made(have):
		return fmt.Errorf("%w: %s", errChanged, have)
	case k.grows:
		return errGrows
	}
	return h.write(c.Knob, c.Before)
}

// placeOf tells files from sysctls.
func placeOf(name string) place {
	if strings.HasPrefix(name, "/") {
		return sysFile
	}
	return runtimeSysctl
}

// write sets a setting of the system.
func (h *host) write(name, value string) error {
	if h.os == "freebsd" {
		if !h.live {
			return errors.New("a copy of freebsd's settings cannot be changed")
		}
		out, err := exec.Command("/sbin/sysctl", name+"="+strings.ReplaceAll(value, " ", ",")).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	file := name
	if placeOf(name) == runtimeSysctl {
		file = sysctlPath(name)
	}
	// Neither created nor cut off: the file is the kernel's, or stands for it.
	f, err := os.OpenFile(h.path(file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if !h.live {
		if err := f.Truncate(0); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	_, err = f.WriteString(value + "\n")
	return errors.Join(err, f.Close())
}
