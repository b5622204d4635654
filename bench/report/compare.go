package report

import "fmt"

// Compare returns a table of what both reports measured: the ratio of b to a, and what the ratio could be with the samples of either. A
// difference within the spread of the samples is called none.
func Compare(a, b *Report) Table {
	t := Table{
		Title:  "A: " + a.Conditions() + "\nB: " + b.Conditions(),
		Header: []string{"figure", "A", "B", "B / A", "verdict"},
	}
	for _, fa := range a.Figures {
		fb, ok := b.Figure(fa.Scenario, fa.Key)
		if !ok {
			t.Rows = append(t.Rows, []string{a.label(fa), fa.Measured(), "-", "-", "only in A"})
			continue
		}
		t.Rows = append(t.Rows, []string{a.label(fa), fa.Measured(), fb.Measured(), ratio(fa, fb), verdict(fa, fb)})
	}
	for _, fb := range b.Figures {
		if _, ok := a.Figure(fb.Scenario, fb.Key); !ok {
			t.Rows = append(t.Rows, []string{b.label(fb), "-", fb.Measured(), "-", "only in B"})
		}
	}
	return t
}

func ratio(a, b Figure) string {
	if a.Value == 0 || a.Low() <= 0 || b.Low() < 0 {
		if a.Value == b.Value {
			return "1"
		}
		return "-" // no ratio to nothing, and none of opposite signs
	}
	low, high := b.Low()/a.High(), b.High()/a.Low()
	if low == high {
		return fmt.Sprintf("%.2f", b.Value/a.Value)
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", b.Value/a.Value, low, high)
}

func verdict(a, b Figure) string {
	switch {
	case a.Better == "":
		return ""
	case a.Low() <= b.High() && b.Low() <= a.High():
		return "within the spread"
	case (b.Value < a.Value) == (a.Better == Less):
		return "better"
	}
	return "worse"
}
