package slab

import (
	"fmt"
	"reflect"
)

// MaxSlot is the largest size of a slot, in bytes.
const MaxSlot = 128

// checkType reports why values of t may not live outside the heap: the collector would not see their pointers.
func checkType(t reflect.Type) error {
	if t.Size() == 0 || t.Size() > MaxSlot {
		return fmt.Errorf("slab: %v has %d bytes, a slot has 1 to %d", t, t.Size(), MaxSlot)
	}
	if path, ok := findPointer(t); ok {
		return fmt.Errorf("slab: %v holds a pointer (%v%s)", t, t, path)
	}
	return nil
}

// findPointer returns the path to the first pointer in t.
func findPointer(t reflect.Type) (path string, found bool) {
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return "", false
	case reflect.Array:
		p, ok := findPointer(t.Elem())
		return "[]" + p, ok
	case reflect.Struct:
		for i := range t.NumField() {
			if p, ok := findPointer(t.Field(i).Type); ok {
				return "." + t.Field(i).Name + p, true
			}
		}
		return "", false
	default:
		// Uintptr too: an address hidden from the collector is a pointer for a reader and nothing for the collector.
		return "", true
	}
}
