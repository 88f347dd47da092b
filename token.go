package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"attune/auth"
	"attune/pg"
)

// maxLife bounds the tokens that are minted here: they are for development.
const maxLife = 30 * 24 * time.Hour

// tokenCommand returns `attune token`, which makes tokens and takes them back.
func tokenCommand(environ map[string]string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make tokens for development, and take tokens back",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(tokenMint(environ), tokenRevoke(environ))
	return cmd
}

func tokenMint(environ map[string]string) *cobra.Command {
	var m auth.Minting
	var execution int64
	cmd := &cobra.Command{
		Use:   "mint",
		Short: "Print a token that is signed with ATTUNE_JWT_SECRET",
		Long: "Print a token that is signed with ATTUNE_JWT_SECRET, by HS256, as ATTUNE_JWT_ISSUER for ATTUNE_JWT_AUDIENCE where\n" +
			"these are set. It is for development: in production whoever knows the users issues their tokens.",
		Example: "  export ATTUNE_JWT_SECRET=$(openssl rand -base64 48)\n" +
			"  attune token mint --user 7 --life 8h\n" +
			"  attune token mint --user 1 --admin | attune login --token-stdin",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret := environ["ATTUNE_JWT_SECRET"]
			if secret == "" {
				return errors.New("which secret? set ATTUNE_JWT_SECRET to the server's; make one with: openssl rand -base64 48")
			}
			if m.Life <= 0 || m.Life > maxLife {
				return fmt.Errorf("--life %s: want more than 0 and at most %s", m.Life, maxLife)
			}
			if cmd.Flags().Changed("execution") {
				m.Execution = &execution
			}
			if !cmd.Flags().Changed("filter") {
				m.Filters = nil
			}
			m.Issuer, m.Audience = environ["ATTUNE_JWT_ISSUER"], environ["ATTUNE_JWT_AUDIENCE"]
			text, err := auth.Mint(secret, m)
			if err != nil {
				return fmt.Errorf("mint a token: %w", err)
			}
			return say(cmd.OutOrStdout(), text+"\n")
		},
	}
	f := cmd.Flags()
	f.Int64Var(&m.User, "user", 0, "id of the identity that the token speaks of")
	f.BoolVar(&m.Admin, "admin", false, "give it the role admin, which may see and do everything")
	f.Int64Var(&execution, "execution", 0, "make it a token for this execution alone")
	f.StringArrayVar(&m.Filters, "filter", nil, "a filter that may be used, such as entity:orders:*; may be repeated (default: no limit)")
	f.DurationVar(&m.Life, "life", time.Hour, "how long it is valid")
	_ = cmd.MarkFlagRequired("user")
	return cmd
}

func tokenRevoke(environ map[string]string) *cobra.Command {
	var tokenID string
	var user int64
	cmd := withDatabase(environ, &cobra.Command{
		Use:   "revoke (--jti ID | --user ID)",
		Short: "Take back a token, or all that a user was given so far",
		Long: "Take back a token, by its jti, or all that a user was given so far. Every server on the database refuses them within\n" +
			"a second and ends the streams that were opened with them. Where the database has the schema attune_live it is\n" +
			"written down in attune_live.revocation, for servers that start later; elsewhere it counts until a server restarts.",
		Args: cobra.NoArgs,
	}, func(ctx context.Context, pool *pgxpool.Pool, out io.Writer, _ []string) error {
		var id *string
		var who *int64
		what := fmt.Sprintf("all tokens that user %d was given so far", user)
		if tokenID != "" {
			id, what = &tokenID, "the token "+tokenID
		} else {
			who = &user
		}
		kept, err := pg.Revoke(ctx, pool, id, who)
		if err != nil {
			return err
		}
		if !kept {
			what += "; servers that start later do not know it: attune db install has it written down"
		}
		return say(out, "revoked: "+what+"\n")
	})
	cmd.Flags().StringVar(&tokenID, "jti", "", "the token's id, its claim jti")
	cmd.Flags().Int64Var(&user, "user", 0, "the identity whose tokens are taken back, those issued until now")
	cmd.MarkFlagsOneRequired("jti", "user")
	cmd.MarkFlagsMutuallyExclusive("jti", "user")
	return cmd
}
