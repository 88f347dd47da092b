package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// What a secret must be like.
const (
	minSecret   = 32 // bytes
	minDistinct = 8  // different bytes
	maxPeriod   = 12 // bytes that may not make up all of it, over and over
)

// minRSA is the smallest RSA key, in bits.
const minRSA = 2048

// Why a key cannot be had.
var (
	errNoKey    = errors.New("no such key")
	errKeysAway = errors.New("the keys cannot be read")
)

// fixedKey is one key for all tokens.
type fixedKey struct {
	algorithm string
	key       any
}

// Algorithm implements Keys.
func (k fixedKey) Algorithm() string { return k.algorithm }

// Key implements Keys.
func (k fixedKey) Key(context.Context, *jwt.Token) (any, error) { return k.key, nil }

// SecretKeys returns the Keys of a shared secret, for HS256. A secret that could be
// guessed is refused.
func SecretKeys(secret string) (Keys, error) {
	if err := CheckSecret(secret); err != nil {
		return nil, err
	}
	return fixedKey{algorithm: HS256, key: []byte(secret)}, nil
}

// CheckSecret returns an error that says why a secret could be guessed and how to make
// a better one; it does not tell the secret.
func CheckSecret(secret string) error {
	why := ""
	switch lower := strings.ToLower(secret); {
	case len(secret) < minSecret:
		why = fmt.Sprintf("has %d bytes, want %d or more", len(secret), minSecret)
	case distinct(secret) < minDistinct:
		why = fmt.Sprintf("has %d different characters, want %d or more", distinct(secret), minDistinct)
	case repeats(secret):
		why = "repeats itself"
	default:
		for _, word := range []string{"changeme", "change-me", "change_me", "change-in", "change_in", "insecure", "your-secret", "your_secret", "password"} {
			if strings.Contains(lower, word) {
				why = fmt.Sprintf("contains %q, as defaults do that everybody can read", word)
				break
			}
		}
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("%s: whoever guesses it can be anybody; make one with: openssl rand -base64 48", why)
}

func distinct(s string) (n int) {
	var seen [256]bool
	for i := range len(s) {
		if !seen[s[i]] {
			seen[s[i]] = true
			n++
		}
	}
	return n
}

// repeats reports whether s is something short, over and over.
func repeats(s string) bool {
	for period := 1; period <= maxPeriod; period++ {
		if s[period:] == s[:len(s)-period] {
			return true
		}
	}
	return false
}

// PublicKeys returns the Keys of a PEM public key or certificate. The algorithm is
// that of the key; if one is given it must be that.
func PublicKeys(text []byte, algorithm string) (Keys, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("want a PEM block such as -----BEGIN PUBLIC KEY-----")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("want one PEM block and nothing after it")
	}
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = certificate.PublicKey
		}
	default:
		return nil, fmt.Errorf("PEM block %.40q: want PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE; a private key has no business here", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("parse the public key: %w", err)
	}
	own, err := algorithmOf(key)
	if err != nil {
		return nil, err
	}
	if algorithm != "" && algorithm != own {
		return nil, fmt.Errorf("the key is for %s, not for %s", own, algorithm)
	}
	return fixedKey{algorithm: own, key: key}, nil
}

// algorithmOf returns what a public key is used with.
func algorithmOf(key any) (string, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSA {
			return "", fmt.Errorf("an RSA key of %d bits: want %d or more", key.N.BitLen(), minRSA)
		}
		return RS256, nil
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return "", fmt.Errorf("an elliptic curve key on %s: want P-256, for ES256", key.Curve.Params().Name)
		}
		return ES256, nil
	case ed25519.PublicKey:
		return EdDSA, nil
	}
	return "", fmt.Errorf("a key of type %T: want RSA, ECDSA on P-256 or Ed25519", key)
}
