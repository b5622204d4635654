//go:build !linux

package testkit

import "testing"

const linuxOnly = "needs Linux, with its namespaces and control groups"

func enterGround(*testing.T) bool { return true }

func newGround(*testing.T) *ground {
	return &ground{why: map[string]string{"network": linuxOnly, "disk": linuxOnly}}
}

func (g *ground) cut(t testing.TB, _, _ string)                  { t.Skip(linuxOnly) }
func (g *ground) heal(t testing.TB)                              { t.Skip(linuxOnly) }
func (g *ground) slow(t testing.TB, _ string, _ *Process, _ int) { t.Skip(linuxOnly) }
func (g *ground) fill(t testing.TB, _ string, _ int64)           { t.Skip(linuxOnly) }
func (g *ground) empty(t testing.TB, _ string)                   { t.Skip(linuxOnly) }
