package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// MaxFile is the size limit of a configuration file in bytes.
const MaxFile = 1 << 20

// Load reads the TOML file into cfg, a pointer to a structure that already holds the defaults. A key that cfg does not have is
// an error, and so is a duplicate. All unknown keys are reported at once. cfg may be partly changed when an error is returned.
func Load(path string, cfg any) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if st.Size() > MaxFile {
		return fmt.Errorf("configuration %s: larger than %d bytes", path, MaxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := Decode(text, cfg); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	return nil
}

// Decode is Load for text in memory.
func Decode(text []byte, cfg any) error {
	dec := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	err := dec.Decode(cfg)
	var missing *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &missing):
		faults := make([]error, 0, len(missing.Errors))
		for i := range missing.Errors {
			row, _ := missing.Errors[i].Position()
			key := strings.Join(missing.Errors[i].Key(), ".")
			faults = append(faults, fmt.Errorf("line %d: unknown key %q", row, key))
		}
		return errors.Join(faults...)
	case errors.As(err, &bad):
		row, col := bad.Position()
		return fmt.Errorf("line %d column %d: %s", row, col, strings.TrimPrefix(bad.Error(), "toml: "))
	}
	return err
}

// Faults collects what is wrong with a configuration, so that all of it is reported at once.
type Faults struct {
	prefix string
	list   *[]error
}

// NewFaults returns an empty collection whose entries start with prefix, the section's name.
func NewFaults(prefix string) Faults { return Faults{prefix: prefix, list: new([]error)} }

// Check notes a fault of the field unless ok; format says what is wanted.
func (f Faults) Check(ok bool, field, format string, args ...any) {
	if !ok {
		*f.list = append(*f.list, fmt.Errorf("%s%s: %s", f.prefix, field, fmt.Sprintf(format, args...)))
	}
}

// Add notes faults that another section found.
func (f Faults) Add(errs ...error) { *f.list = append(*f.list, errs...) }

// List returns the faults in the order in which they were noted; nil when there are none.
func (f Faults) List() []error { return *f.list }
