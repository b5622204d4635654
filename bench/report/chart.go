package report

import (
	"math"
	"strconv"
)

// Chart is lines over a common axis, or bars where Bars is set.
type Chart struct {
	Name   string   `json:"name"` // of its PNG file, without the suffix
	Title  string   `json:"title"`
	X      string   `json:"x"` // axes, with units
	Y      string   `json:"y"`
	LogX   bool     `json:"log_x,omitempty"`
	Series []Series `json:"series,omitempty"`
	Bars   []Bar    `json:"bars,omitempty"`
}

// Series is one line, its points ascending in x.
type Series struct {
	Name   string       `json:"name"`
	Points [][2]float64 `json:"points"`
}

// Bar is one horizontal bar; Ours is drawn apart from what it is compared with.
type Bar struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Ours  bool    `json:"ours,omitempty"`
}

// span is the part of an axis that is drawn.
type span struct {
	low, high float64
	log       bool
}

// at returns where a value stands on the axis, from 0 to 1.
func (s span) at(v float64) float64 {
	if s.log {
		v, s.low, s.high = math.Log10(max(v, s.low)), math.Log10(s.low), math.Log10(s.high)
	}
	if s.high == s.low {
		return 0
	}
	return min(1, max(0, (v-s.low)/(s.high-s.low)))
}

// ticks returns at most about eight round values within the axis.
func (s span) ticks() (all []float64) {
	if s.log {
		for d := math.Floor(math.Log10(s.low)); d <= math.Ceil(math.Log10(s.high)); d++ {
			if v := math.Pow(10, d); v >= s.low*0.999 && v <= s.high*1.001 {
				all = append(all, v)
			}
		}
		return all
	}
	step := math.Pow(10, math.Floor(math.Log10((s.high-s.low)/2)))
	for _, m := range []float64{1, 2, 5, 10} {
		if (s.high-s.low)/(step*m) <= 8 {
			step *= m
			break
		}
	}
	for i := math.Ceil(s.low / step); i*step <= s.high*(1+1e-9); i++ {
		all = append(all, i*step)
	}
	return all
}

// spans returns the axes: y from zero on, both widened where there is nothing to see.
func (c Chart) spans() (x, y span) {
	x, y = span{math.Inf(1), math.Inf(-1), c.LogX}, span{0, 0, false}
	for _, s := range c.Series {
		for _, p := range s.Points {
			if c.LogX && p[0] <= 0 {
				continue // has no place there
			}
			x.low, x.high = min(x.low, p[0]), max(x.high, p[0])
			y.low, y.high = min(y.low, p[1]), max(y.high, p[1])
		}
	}
	if x.low > x.high {
		x.low, x.high = 1, 10
	}
	if x.low == x.high {
		x.high = x.low + 1
	}
	if y.low == y.high {
		y.high = y.low + 1
	}
	return x, y
}

// tickText is a short number: 1500000 is 1.5M.
func tickText(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= u.size {
			return strconv.FormatFloat(v/u.size, 'g', 3, 64) + u.name
		}
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
