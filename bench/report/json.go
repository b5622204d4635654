package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// File names under an output folder.
const (
	JSONFile = "report.json"
	HTMLFile = "report.html"
)

var errSchema = errors.New("schema")

// MarshalJSON writes the report with one object more for each scenario, named after it, that has just keys and numbers: what a script
// wants of it.
func (r *Report) MarshalJSON() ([]byte, error) {
	type plain Report // without this method
	text, err := json.Marshal((*plain)(r))
	if err != nil {
		return nil, err
	}
	whole := map[string]any{}
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, err
	}
	for _, f := range r.Figures {
		section, ok := whole[f.Scenario].(map[string]any)
		if !ok {
			section = map[string]any{}
			whole[f.Scenario] = section
		}
		section[f.Key] = f.Value
	}
	return json.Marshal(whole)
}

// Write writes report.json, report.html and a PNG file for each chart into dir, which it makes. What can be written is, the figures first,
// also beside an error.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	faults := []error{write(dir, JSONFile, append(text, '\n'), nil)}
	page, err := r.HTML()
	faults = append(faults, write(dir, HTMLFile, page, err))
	for _, c := range r.Charts {
		image, err := c.PNG()
		faults = append(faults, write(dir, c.Name+".png", image, err))
	}
	return errors.Join(faults...)
}

// write writes one file, if there was no error in making it.
func write(dir, name string, content []byte, err error) error {
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), content, 0o644)
	}
	if err != nil {
		return fmt.Errorf("report: %s: %w", name, err)
	}
	return nil
}

// Read reads a report.json; path may be the folder that it is in.
func Read(path string) (*Report, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, JSONFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	r := &Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("report %s: %w", path, err)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("report %s: %w %d, this program knows %d", path, errSchema, r.Schema, Schema)
	}
	return r, nil
}
