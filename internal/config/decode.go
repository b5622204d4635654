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
	text, err := Read(path)
	if err != nil {
		return err
	}
	if err := Decode(text, cfg); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	return nil
}

// Read returns the text of a configuration file of at most MaxFile bytes.
func Read(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if st.Size() > MaxFile {
		return nil, fmt.Errorf("configuration %s: larger than %d bytes", path, MaxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return text, nil
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
