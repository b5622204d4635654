package slab

import (
	"reflect"
	"runtime"
	"unsafe"
)

// Array is a fixed number of pointer-free values in mapped memory, of which the kernel backs what is touched. It belongs to one goroutine.
type Array[T any] struct{ items []T }

// NewArray returns n zero values. Their memory is given back when the Array is garbage: keep it as long as a slice of it is used. It
// panics as NewTable does, and when the kernel gives no memory.
func NewArray[T any](n int) *Array[T] {
	if err := checkType(reflect.TypeFor[T]()); err != nil {
		panic(err)
	}
	b, err := mapChunk(n * int(unsafe.Sizeof(*new(T))))
	if err != nil {
		panic(err)
	}
	a := &Array[T]{items: unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n)}
	runtime.AddCleanup(a, func(b []byte) { _ = unmapAll([][]byte{b}) }, b)
	return a
}

// Len returns the number of values.
func (a *Array[T]) Len() int { return len(a.items) }

// At returns the i-th value, which is the array's.
func (a *Array[T]) At(i int) *T { return &a.items[i] }
