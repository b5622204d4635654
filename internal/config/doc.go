// Package config reads linecard's configuration: defaults, then a TOML file, then flags, then Validate.
//
// It holds the typed units that every daemon's configuration uses (Duration, Size) and the strict decoder: unknown keys are
// errors, and all faults are reported at once. The daemons own their configuration structures; package node puts them together.
//
// Nothing here starts a goroutine; every value is plain data.
package config
