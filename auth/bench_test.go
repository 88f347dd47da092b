package auth_test

import (
	"testing"

	"attune/auth"
	"attune/wire"
)

// BenchmarkVerifier_Verify is what a request costs before anything is done for it.
func BenchmarkVerifier_Verify(b *testing.B) {
	v, text := verifier(b, auth.Rules{}), token(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdentity_Receives is what a delivery costs more with authentication on.
func BenchmarkIdentity_Receives(b *testing.B) {
	id := &auth.Identity{User: 7, Role: auth.RoleUser}
	n := &wire.Notification{EntityType: "execution", EntityID: wire.IntID(42), UserID: new(int64(7))}
	b.ReportAllocs()
	for b.Loop() {
		if !id.Receives(n) {
			b.Fatal("not received")
		}
	}
}
