package shard

// Tables is the key range of one group in the state database.
type Tables struct{}

func (t Tables) Get(key []byte) (val []byte, ok bool, err error)          { panic("not yet") }
func (t Tables) Scan(lower, upper []byte, f func(k, v []byte) bool) error { panic("not yet") }
func (t Tables) Ahead() *Batch                                            { panic("not yet") }

// Batch collects changes of one group's tables.
type Batch struct{}

func (b *Batch) Set(k, v []byte)           { panic("not yet") }
func (b *Batch) Delete(k []byte)           { panic("not yet") }
func (b *Batch) DeleteRange(lo, hi []byte) { panic("not yet") }
func (b *Batch) Size() int                 { panic("not yet") }
func (b *Batch) Commit() error             { panic("not yet") }
