package main

import (
	"slices"
	"strings"
	"testing"
)

// TestWithoutToken holds that reports, which are shown to others, do not carry what agents want to hear.
func TestWithoutToken(t *testing.T) {
	for args, want := range map[string]string{
		"linecard bench density --token secret --sessions 1": "linecard bench density --token ... --sessions 1",
		"linecard bench density --token=secret":              "linecard bench density --token=...",
		"linecard bench density --token":                     "linecard bench density --token",
		"linecard bench all":                                 "linecard bench all",
	} {
		if got := withoutToken(strings.Fields(args)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q", args, got)
		}
	}
}
