package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

const defaultURL = "http://localhost:8081"

// target is a server and the token to show it.
type target struct{ url, token string }

// target returns the server that the command speaks to: by flag, environment,
// profile or default, in this order. A profile's token goes to the profile's server
// alone, so that --url cannot carry it elsewhere.
func (a *app) target() (target, error) {
	t := target{url: cmp.Or(a.url, a.Getenv("ATTUNE_URL")), token: a.Getenv("ATTUNE_TOKEN")}
	name := cmp.Or(a.profile, a.Getenv("ATTUNE_PROFILE"))
	if t.url != "" && t.token != "" && name == "" {
		return t, nil // nothing is left to be asked of a profile
	}
	p, err := a.lookUp(name)
	if err != nil {
		return target{}, err
	}
	t.url = cmp.Or(t.url, p.URL, defaultURL)
	if t.token == "" && sameServer(t.url, p.URL) {
		t.token = p.Token
	}
	return t, nil
}

// healthTarget is target for `attune health`, which in a container asks the server
// beside it: ATTUNE_LISTEN_ADDR stands in for a URL that nobody named.
func (a *app) healthTarget() (target, error) {
	listen := a.Getenv("ATTUNE_LISTEN_ADDR")
	if listen == "" || cmp.Or(a.url, a.profile, a.Getenv("ATTUNE_URL"), a.Getenv("ATTUNE_PROFILE")) != "" {
		return a.target()
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return target{}, usagef("ATTUNE_LISTEN_ADDR=%q: %w", listen, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // "everywhere" is no place to connect to
	}
	return target{url: "http://" + net.JoinHostPort(host, port), token: a.Getenv("ATTUNE_TOKEN")}, nil
}

// sameServer reports whether two URLs name the same scheme, host and port.
func sameServer(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	return errX == nil && errY == nil && x.Host != "" && strings.EqualFold(x.Scheme, y.Scheme) && strings.EqualFold(x.Host, y.Host)
}

// profile is a server that has a name in the configuration file.
type profile struct{ URL, Token string }

// lookUp returns the profile of that name; for "" the default one, or none.
func (a *app) lookUp(name string) (profile, error) {
	file := a.configFile()
	if file == "" {
		if name != "" {
			return profile{}, usagef("profile %q: neither XDG_CONFIG_HOME nor HOME is set", name)
		}
		return profile{}, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if name != "" {
			return profile{}, usagef("profile %q: there is no %s", name, file)
		}
		return profile{}, nil
	}
	if err != nil {
		return profile{}, &usageError{fmt.Errorf("profiles: %w", err)}
	}
	c, err := parseConfig(text)
	if err != nil {
		return profile{}, &usageError{fmt.Errorf("%s: %w", file, err)}
	}
	wanted := cmp.Or(name, c.standard)
	if wanted == "" {
		return profile{}, nil
	}
	p, ok := c.profiles[wanted]
	if !ok {
		names := strings.Join(slices.Sorted(maps.Keys(c.profiles)), ", ")
		return profile{}, usagef("profile %q: %s has %s", wanted, file, cmp.Or(names, "no profiles"))
	}
	return p, nil
}

// configFile returns where profiles are kept; "" when nothing says.
func (a *app) configFile() string {
	if dir := a.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "attune", "config.yaml")
	}
	if home := a.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".config", "attune", "config.yaml")
	}
	return ""
}

// config is the configuration file.
type config struct {
	standard string // the profile to use when none is named
	profiles map[string]profile
}

// parseConfig reads a configuration file. A key that it does not know is an error: it
// may be a slip that would send the user to another server.
func parseConfig(text []byte) (config, error) {
	c := config{profiles: make(map[string]profile)}
	var root yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&root); err != nil || len(root.Content) == 0 {
		if len(bytes.TrimSpace(text)) == 0 || err == nil {
			return c, nil
		}
		return config{}, err
	}
	err := members(root.Content[0], "", map[string]func(*yaml.Node) error{
		"default": func(n *yaml.Node) error { return n.Decode(&c.standard) },
		"profiles": func(n *yaml.Node) error {
			return each(n, "profiles", func(name string, n *yaml.Node) error {
				var p profile
				err := members(n, "profiles."+name, map[string]func(*yaml.Node) error{
					"url":   func(n *yaml.Node) error { return n.Decode(&p.URL) },
					"token": func(n *yaml.Node) error { return n.Decode(&p.Token) },
				})
				c.profiles[name] = p
				return err
			})
		},
	})
	if err != nil {
		return config{}, err
	}
	return c, nil
}

// members decodes a mapping whose keys are known.
func members(n *yaml.Node, path string, known map[string]func(*yaml.Node) error) error {
	return each(n, path, func(key string, value *yaml.Node) error {
		decode, ok := known[key]
		if !ok {
			where := ""
			if path != "" {
				where = " in " + path
			}
			return fmt.Errorf("line %d: unknown key %q%s: want %s", value.Line, key, where,
				strings.Join(slices.Sorted(maps.Keys(known)), " or "))
		}
		return decode(value)
	})
}

// each calls visit for each member of a mapping; null counts as an empty one.
func each(n *yaml.Node, path string, visit func(string, *yaml.Node) error) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s: want a mapping", n.Line, cmp.Or(path, "the file"))
	}
	var all []error
	for i := 0; i+1 < len(n.Content); i += 2 {
		all = append(all, visit(n.Content[i].Value, n.Content[i+1]))
	}
	return errors.Join(all...)
}
