package measured

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificate writes a self-signed certificate for 127.0.0.1 and its key into dir, and
// returns the environment with which StartAttune serves HTTPS.
func Certificate(dir string) (env []string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	for _, f := range []struct {
		variable, name string
		block          pem.Block
	}{
		{"ATTUNE_TLS_CERT_FILE", "cert.pem", pem.Block{Type: "CERTIFICATE", Bytes: cert}},
		{"ATTUNE_TLS_KEY_FILE", "key.pem", pem.Block{Type: "PRIVATE KEY", Bytes: der}},
	} {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&f.block), 0o600); err != nil {
			return nil, err
		}
		env = append(env, f.variable+"="+path)
	}
	return env, nil
}
