package main

// BenchCmd measures linecard.
type BenchCmd struct {
	benchClients
}
