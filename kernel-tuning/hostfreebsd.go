package tuning

// freebsdHost are the knobs of a freebsd machine that are not TCP's.
var freebsdHost = []Knob{}
