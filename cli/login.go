package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

// maxToken bounds what is read as a token, in bytes.
const maxToken = 16 << 10

// login is `attune login`.
func (a *app) login() *cobra.Command {
	var stdin bool
	cmd := &cobra.Command{
		Use:   "login --token-stdin",
		Short: "Keep a token in a profile",
		Long: "Keep a token, read from standard input, in a profile: the one that --profile or ATTUNE_PROFILE names, else the\n" +
			"default one. With --url or ATTUNE_URL the profile becomes that server's. The token is sent to the profile's server\n" +
			"alone. The file is readable by you only. A token is never an argument: others on the machine could read it.",
		Example: "  attune login --token-stdin --url https://attune.example --profile prod <token.txt",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !stdin {
				return usagef("want --token-stdin: a token that is an argument can be read by others on this machine")
			}
			return a.keepToken()
		},
	}
	cmd.Flags().BoolVar(&stdin, "token-stdin", false, "read the token from standard input")
	return cmd
}

// keepToken writes the token on standard input into a profile.
func (a *app) keepToken() error {
	text, err := io.ReadAll(io.LimitReader(a.Stdin, maxToken+1))
	if err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(text) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return usagef("the token on standard input: want 1 to %d characters of printable ASCII without spaces", maxToken)
	}
	file := a.configFile()
	if file == "" {
		return usagef("where are profiles kept? neither XDG_CONFIG_HOME nor HOME is set")
	}
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("profiles: %w", err)
	}
	c, err := parseConfig(before)
	if err != nil {
		return &usageError{fmt.Errorf("%s: %w", file, err)}
	}
	asked := cmp.Or(a.profile, a.Getenv("ATTUNE_PROFILE"))
	name := cmp.Or(asked, c.standard, "default")
	url := cmp.Or(a.url, a.Getenv("ATTUNE_URL"), c.profiles[name].URL, defaultURL)
	if _, err := a.connect(target{url: url, token: token}); err != nil {
		return err
	}
	standard := c.standard == "" && (asked == "" || len(c.profiles) == 0)
	after, err := withToken(before, name, url, token, standard)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := writePrivate(file, after); err != nil {
		return fmt.Errorf("profiles: %w", err)
	}
	a.printer().line("The token for %s is kept in profile %q of %s", url, name, file)
	return nil
}

// withToken returns the configuration with a profile's URL and token set; all else,
// comments included, stays. With standard, the profile becomes the default one.
func withToken(text []byte, name, url, token string, standard bool) ([]byte, error) {
	root := &yaml.Node{}
	if len(bytes.TrimSpace(text)) > 0 {
		if err := yaml.Unmarshal(text, root); err != nil {
			return nil, err
		}
	}
	if len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
		root = &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	top := root.Content[0]
	if standard {
		member(top, "default").SetString(name)
	}
	profile := mapping(mapping(member(top, "profiles")), name)
	member(profile, "url").SetString(url)
	member(profile, "token").SetString(token)
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(root), encoder.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// mapping makes n a mapping if it is none, and returns it, or what is in it by those
// names.
func mapping(n *yaml.Node, names ...string) *yaml.Node {
	for _, name := range names {
		n = mapping(member(n, name))
	}
	if n.Kind != yaml.MappingNode {
		*n = yaml.Node{Kind: yaml.MappingNode}
	}
	return n
}

// member returns what a mapping has by a name, which is added if it is not there.
func member(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	value := &yaml.Node{}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, value)
	return value
}

// writePrivate writes a file that nobody but its owner may read, all of it or nothing.
func writePrivate(file string, text []byte) (err error) {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if there, err := filepath.EvalSymlinks(file); err == nil { // kept elsewhere, as dotfiles are
		file, dir = there, filepath.Dir(there)
	}
	temp, err := os.CreateTemp(dir, ".config-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name())
		}
	}()
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Chmod(0o600), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}
