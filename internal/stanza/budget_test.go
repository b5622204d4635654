package stanza

import "testing"

func TestBudgets(t *testing.T) {
	t.Logf("%-36s %6s %6s", "stanza (bytes beyond ciphertext)", "limit", "size")
	for _, b := range Budgets() {
		t.Logf("%-36s %6d %6d", b.Name, b.Limit, b.Size)
		if b.Size > b.Limit {
			t.Errorf("%s: %d bytes, budget %d", b.Name, b.Size, b.Limit)
		}
	}
}
