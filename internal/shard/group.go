package shard

import (
	"context"
	"time"

	"linecard.example/internal/stanza"
)

// Group is one raft group of this process with its machine.
type Group[C, R any] struct{ m Machine[C, R] }

func Open[C, R any](h *Host, g stanza.Group, m Machine[C, R]) (*Group[C, R], error) { panic("not yet") }

func (g *Group[C, R]) ID() stanza.Group                         { panic("not yet") }
func (g *Group[C, R]) Propose(cmd []byte, ctx C) bool           { panic("not yet") }
func (g *Group[C, R]) ProposeLazy(cmd []byte, ctx C) bool       { panic("not yet") }
func (g *Group[C, R]) Stamp() int64                             { panic("not yet") }
func (g *Group[C, R]) Verify(f func(ok bool))                   { panic("not yet") }
func (g *Group[C, R]) Leading() (term uint64, ok bool)          { panic("not yet") }
func (g *Group[C, R]) Wake()                                    { panic("not yet") }
func (g *Group[C, R]) Tables() Tables                           { panic("not yet") }
func (g *Group[C, R]) Call(ctx context.Context, f func()) error { panic("not yet") }
func (g *Group[C, R]) Snapshot(ctx context.Context) error       { panic("not yet") }
func (g *Group[C, R]) Turned() time.Time                        { panic("not yet") }
func (g *Group[C, R]) Close() error                             { panic("not yet") }
