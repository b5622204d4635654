package shard

// Overlay is a write-back map over Tables for small records.
type Overlay struct{}

func NewOverlay(t Tables, cleanBytes int) *Overlay                          { panic("not yet") }
func (o *Overlay) Get(key []byte) (val []byte, ok bool, err error)          { panic("not yet") }
func (o *Overlay) Set(key, val []byte)                                      { panic("not yet") }
func (o *Overlay) Delete(key []byte)                                        { panic("not yet") }
func (o *Overlay) Scan(lower, upper []byte, f func(k, v []byte) bool) error { panic("not yet") }
func (o *Overlay) FlushTo(b *Batch)                                         { panic("not yet") }
func (o *Overlay) Size() int                                                { panic("not yet") }
