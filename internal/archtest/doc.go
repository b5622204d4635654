// Package archtest holds the tests that keep the code's structure: who may import whom, how long a file may be, that each
// package says what it is. It contains no other code.
package archtest
