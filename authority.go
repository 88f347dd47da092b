package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"attune/auth"
	"attune/pg"
)

// authenticates reports whether there is a key to check tokens with.
func (c Config) authenticates() bool {
	return c.JWTSecret != "" || c.JWTPublicKey != "" || c.JWKSURL != ""
}

// validateAuth returns what is wrong with the settings of authentication.
func (c Config) validateAuth() (mistakes []error) {
	check := func(ok bool, name, format string, args ...any) {
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
		}
	}
	keys := 0
	for _, key := range []string{c.JWTSecret, c.JWTPublicKey, c.JWKSURL} {
		if key != "" {
			keys++
		}
	}
	check(keys <= 1, "ATTUNE_JWT_SECRET", "set one of ATTUNE_JWT_SECRET, ATTUNE_JWT_PUBLIC_KEY_FILE and ATTUNE_JWKS_URL, not %d: there is one way to sign a token", keys)
	if c.JWTSecret != "" {
		err := auth.CheckSecret(c.JWTSecret)
		check(err == nil, "ATTUNE_JWT_SECRET", "the secret %v", err)
		check(c.JWTAlgorithm == "" || c.JWTAlgorithm == auth.HS256, "ATTUNE_JWT_ALGORITHM", "%q: a secret is for HS256", c.JWTAlgorithm)
	}
	check(c.JWTAlgorithm == "" || slices.Contains(auth.Algorithms(), c.JWTAlgorithm), "ATTUNE_JWT_ALGORITHM", "%q: want one of %v", c.JWTAlgorithm, auth.Algorithms())
	check(c.JWTAlgorithm == "" || keys > 0, "ATTUNE_JWT_ALGORITHM", "is for a key of yours: set one of ATTUNE_JWT_SECRET, ATTUNE_JWT_PUBLIC_KEY_FILE and ATTUNE_JWKS_URL too")
	check(c.JWKSURL == "" || c.JWTAlgorithm != "", "ATTUNE_JWT_ALGORITHM", "want the one that the issuer signs with, RS256, ES256 or EdDSA: a key set may hold keys of several kinds")
	check(c.JWTLeeway >= 0 && c.JWTLeeway <= 5*time.Minute, "ATTUNE_JWT_LEEWAY", "%s: want 0s to 5m", c.JWTLeeway)
	return mistakes
}

// openAuthority returns who says who is let in, and what has to run for it; nils where
// authentication is off.
func openAuthority(ctx context.Context, cfg Config, logger *slog.Logger) (authority *auth.Authority, run func(context.Context), err error) {
	if !cfg.authenticates() {
		return nil, nil, nil
	}
	run = func(context.Context) {}
	var keys auth.Keys
	switch {
	case cfg.JWTSecret != "":
		keys, err = auth.SecretKeys(cfg.JWTSecret)
		err = named("ATTUNE_JWT_SECRET", err)
	case cfg.JWTPublicKey != "":
		var text []byte
		if text, err = os.ReadFile(cfg.JWTPublicKey); err == nil {
			keys, err = auth.PublicKeys(text, cfg.JWTAlgorithm)
		}
		err = named("ATTUNE_JWT_PUBLIC_KEY_FILE", err)
	default:
		var set *auth.JWKS
		if set, err = auth.NewJWKS(cfg.JWKSURL, cfg.JWTAlgorithm, logger); err == nil {
			err = set.Read(ctx)
			keys, run = set, set.Run
		}
		err = named("ATTUNE_JWKS_URL", err)
	}
	if err != nil {
		return nil, nil, err
	}
	rules := auth.Rules{Issuer: cfg.JWTIssuer, Audience: cfg.JWTAudience, Leeway: cfg.JWTLeeway}
	return auth.NewAuthority(auth.NewVerifier(keys, rules)), run, nil
}

// control passes on to the authority what is said to servers: revocations.
type control struct {
	authority *auth.Authority
	pool      *pgxpool.Pool
	logger    *slog.Logger
}

func newControl(authority *auth.Authority, pool *pgxpool.Pool, logger *slog.Logger) *control {
	return &control{authority: authority, pool: pool, logger: logger.With(slog.String("component", "auth"))}
}

// Channels implements pg.Control.
func (*control) Channels() []string { return []string{pg.ControlChannel} }

// Opened implements pg.Control: what was revoked while nobody listened is read.
func (c *control) Opened(ctx context.Context) error {
	revoked, err := pg.Revocations(ctx, c.pool)
	if err != nil {
		return err
	}
	list := make([]auth.Revocation, len(revoked))
	for i, r := range revoked {
		list[i].At = r.Revoked
		if r.TokenID != nil {
			list[i].TokenID = *r.TokenID
		} else if r.UserID != nil {
			list[i].User = *r.UserID
		}
	}
	c.authority.Revoke(list...)
	return nil
}

// Receive implements pg.Control.
func (c *control) Receive(ctx context.Context, channel, payload string, at time.Time) {
	r, err := auth.ParseRevocation(payload, at)
	if err != nil {
		c.logger.WarnContext(ctx, "not understood on the control channel", slog.String("channel", channel), slog.Any("err", err))
		return
	}
	c.authority.Revoke(r)
	if r.TokenID != "" {
		c.logger.InfoContext(ctx, "token revoked", slog.String("jti", r.TokenID))
	} else {
		c.logger.InfoContext(ctx, "tokens of a user revoked", slog.Int64("user_id", r.User))
	}
}

// named tells the setting that an error is about.
func named(setting string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", setting, err)
}
