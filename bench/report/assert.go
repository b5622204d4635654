package report

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// Assertion is a budget that a figure must keep: KEY<=NUMBER or KEY>=NUMBER, SCENARIO.KEY where several scenarios have the key.
type Assertion struct {
	Scenario, Key string
	AtMost        bool
	Limit         float64
}

var (
	assertionRule = regexp.MustCompile(`^(?:([a-z]+)\.)?([a-z0-9_]+)(<=|>=)(\S+)$`)
	errAssertion  = errors.New("want KEY<=NUMBER or KEY>=NUMBER")
)

// UnmarshalText reads an assertion from the command line.
func (a *Assertion) UnmarshalText(text []byte) error {
	m := assertionRule.FindStringSubmatch(string(text))
	if m == nil {
		return fmt.Errorf("%q: %w", text, errAssertion)
	}
	limit, err := strconv.ParseFloat(m[4], 64)
	if err != nil {
		return fmt.Errorf("%q: %w", text, errAssertion)
	}
	*a = Assertion{Scenario: m[1], Key: m[2], AtMost: m[3] == "<=", Limit: limit}
	return nil
}

// Check returns every assertion that the report does not keep; one whose figure is missing is not kept.
func (r *Report) Check(all []Assertion) error {
	var broken []error
	for _, a := range all {
		f, ok := r.Figure(a.Scenario, a.Key)
		switch {
		case !ok:
			broken = append(broken, fmt.Errorf("budget of %s: the report has no such figure", a.Key))
		case a.AtMost && f.Value > a.Limit:
			broken = append(broken, fmt.Errorf("budget of %s: %s, at most %s", a.Key, f.Measured(), number(a.Limit)))
		case !a.AtMost && f.Value < a.Limit:
			broken = append(broken, fmt.Errorf("budget of %s: %s, at least %s", a.Key, f.Measured(), number(a.Limit)))
		}
	}
	return errors.Join(broken...)
}
