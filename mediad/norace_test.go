//go:build !race

package mediad

const raceEnabled = false
