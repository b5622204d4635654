package tuning

// freebsdTCP are the knobs of freebsd's network.
var freebsdTCP = []Knob{}
