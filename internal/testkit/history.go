package testkit

import "linecard.example/internal/history"

// History is the judge that the simulation has too.
type History = history.History

// Stream names a stream of a History.
type Stream = history.Stream

// NewHistory returns an empty history.
func NewHistory() *History { return history.New() }
