//go:build race

package mediad

// raceEnabled: the race detector multiplies what everything takes.
const raceEnabled = true
