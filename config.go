package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	attunehttp "attune/http"
	"attune/pg"
)

// Config is what `attune serve` is told: a flag counts more than the environment,
// the environment more than the default. The tags are also what --help and the
// README's table are made of.
type Config struct {
	ListenAddr     string        `env:"ATTUNE_LISTEN_ADDR" envDefault:"127.0.0.1:8081" desc:"address to serve on"`
	DatabaseURL    string        `env:"ATTUNE_DATABASE_URL" desc:"the database to follow, as libpq writes it; DATABASE_URL is taken where this is not set; neither: attune brings its own PostgreSQL"`
	ListenURL      string        `env:"ATTUNE_LISTEN_URL" desc:"a direct connection for LISTEN, where the database URL leads through a pooler"`
	DataDir        string        `env:"ATTUNE_DATA_DIR" desc:"where our own PostgreSQL keeps its data (default: the user's data directory)"`
	Schema         string        `env:"ATTUNE_SCHEMA" envDefault:"attune" desc:"schema of the execution table; after it the search path is looked through"`
	Channels       []string      `env:"ATTUNE_CHANNELS" desc:"channels to LISTEN on, comma-separated (default: an Attune platform's)"`
	Source         string        `env:"ATTUNE_SOURCE" envDefault:"auto" desc:"listen: notifications are NOTIFY payloads; log: rows of attune_live.notification_log, which survive restarts; auto: log where the database has it"`
	CanaryInterval time.Duration `env:"ATTUNE_CANARY_INTERVAL" envDefault:"5s" desc:"how often delivery is proved; a deaf connection is found within two intervals"`
	QueueBytes     int           `env:"ATTUNE_QUEUE_BYTES" envDefault:"16777216" desc:"bytes that may wait for one subscriber"`
	QueueSize      int           `env:"ATTUNE_QUEUE_SIZE" envDefault:"1024" desc:"messages that may wait for one subscriber; one more and it is a slow consumer"`
	MaxConnections int           `env:"ATTUNE_MAX_CONNECTIONS" envDefault:"20000" desc:"streams and long polls that may be open at once; 0: no limit"`
	MaxPerAddress  int           `env:"ATTUNE_MAX_CONNECTIONS_PER_ADDRESS" envDefault:"0" desc:"those of one client address; 0: no limit, as behind a proxy all come from one"`
	MaxPerUser     int           `env:"ATTUNE_MAX_CONNECTIONS_PER_IDENTITY" envDefault:"1000" desc:"those of one identity, with authentication on; 0: no limit"`
	MaxFilters     int           `env:"ATTUNE_MAX_FILTERS" envDefault:"1000000" desc:"filters of all connections together; 0: no limit"`
	RequestRate    float64       `env:"ATTUNE_REQUEST_RATE" envDefault:"500" desc:"requests a second of one identity, with authentication on; twice as many at once; 0: no limit"`
	AddressRate    float64       `env:"ATTUNE_REQUEST_RATE_PER_ADDRESS" envDefault:"0" desc:"requests a second of one client address; twice as many at once; 0: no limit, as behind a proxy all come from one"`
	SubscribeRate  float64       `env:"ATTUNE_SUBSCRIBE_RATE" envDefault:"100" desc:"filters that a WebSocket may add or remove in a second; twice as many at once; 0: no limit"`
	WindowBytes    int           `env:"ATTUNE_WINDOW_BYTES" envDefault:"67108864" desc:"bytes of notifications retained for replay; a process takes up to five times as much for them"`
	WindowSize     int           `env:"ATTUNE_WINDOW_SIZE" envDefault:"10000" desc:"notifications retained for replay"`
	LogMaxAge      time.Duration `env:"ATTUNE_LOG_MAX_AGE" envDefault:"168h" desc:"how long the notification log keeps a row; what is older is deleted once a minute; 0: no limit by age"`
	LogMaxRows     int64         `env:"ATTUNE_LOG_MAX_ROWS" envDefault:"1000000" desc:"rows that the notification log keeps, as counted once a minute; 0: no limit by number"`
	Drain          time.Duration `env:"ATTUNE_DRAIN" envDefault:"5s" desc:"how long a shutdown waits for goodbyes and running actions; goodbyes are spread over most of it"`
	Runner         runnerMode    `env:"ATTUNE_RUNNER" envDefault:"auto" desc:"run actions here: true, false, or auto (only with our own PostgreSQL); with true, tables that are missing are created"`
	Workers        int           `env:"ATTUNE_WORKERS" envDefault:"16" desc:"actions that run at once"`
	JWTSecret      string        `env:"ATTUNE_JWT_SECRET" flag:"-" desc:"the secret of tokens that are signed by HS256, an Attune platform's JWT secret; it is no flag, as everybody can read those"`
	JWTPublicKey   string        `env:"ATTUNE_JWT_PUBLIC_KEY_FILE" desc:"a PEM file with the public key that tokens are signed with: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)"`
	JWKSURL        string        `env:"ATTUNE_JWKS_URL" desc:"where the issuer publishes its keys; ATTUNE_JWT_ALGORITHM must be set too"`
	JWTAlgorithm   string        `env:"ATTUNE_JWT_ALGORITHM" desc:"the one algorithm that is accepted: HS256, RS256, ES256 or EdDSA (default: that of the secret or key)"`
	JWTIssuer      string        `env:"ATTUNE_JWT_ISSUER" desc:"what a token's iss must be (default: anything)"`
	JWTAudience    string        `env:"ATTUNE_JWT_AUDIENCE" desc:"what a token's aud must name (default: anything)"`
	JWTLeeway      time.Duration `env:"ATTUNE_JWT_LEEWAY" envDefault:"5s" desc:"how far the issuer's clock may be from ours"`
	AllowedOrigins []string      `env:"ATTUNE_ALLOWED_ORIGINS" desc:"origins, besides our own, whose pages may call, comma-separated; without authentication their hosts are also the only domains that are answered to"`
	TrustedProxies []string      `env:"ATTUNE_TRUSTED_PROXIES" desc:"addresses or networks of proxies, comma-separated, whose X-Forwarded-For and X-Forwarded-Proto are believed"`
	TLSCert        string        `env:"ATTUNE_TLS_CERT_FILE" desc:"a PEM file with the certificate, and those between it and the root: serves HTTPS and HTTP/2; a file that is replaced is read again"`
	TLSKey         string        `env:"ATTUNE_TLS_KEY_FILE" desc:"a PEM file with the certificate's key"`
	Insecure       bool          `env:"ATTUNE_INSECURE" envDefault:"false" desc:"serve without authentication on an address that is not loopback"`
	MetricsAddr    string        `env:"ATTUNE_METRICS_ADDR" desc:"an address of its own for /metrics"`
	LogLevel       slog.Level    `env:"ATTUNE_LOG_LEVEL" envDefault:"info" desc:"debug, info, warn or error"`
	LogFormat      string        `env:"ATTUNE_LOG_FORMAT" envDefault:"text" desc:"text or json"`
}

// The values of ATTUNE_SOURCE.
const (
	sourceAuto   = "auto"
	sourceListen = "listen"
	sourceLog    = "log"
)

// runnerMode says whether the runner runs.
type runnerMode string

const runnerAuto runnerMode = "auto"

// on reports whether the runner runs, given whether the database is our own.
func (m runnerMode) on(standalone bool) bool {
	if m == runnerAuto {
		return standalone
	}
	on, err := strconv.ParseBool(string(m))
	return err == nil && on
}

// setting is a field of Config. flag is "" for one that is no flag.
type setting struct {
	name, flag, fallback, description string
	boolean                           bool
}

// settings lists the fields of Config.
func settings() []setting {
	t := reflect.TypeFor[Config]()
	list := make([]setting, t.NumField())
	for i := range list {
		field := t.Field(i)
		name := field.Tag.Get("env")
		list[i] = setting{
			name:        name,
			flag:        strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "ATTUNE_")), "_", "-"),
			fallback:    field.Tag.Get("envDefault"),
			description: field.Tag.Get("desc"),
			boolean:     field.Type.Kind() == reflect.Bool,
		}
		if field.Tag.Get("flag") == "-" {
			list[i].flag = ""
		}
	}
	return list
}

// loadConfig reads the configuration from an environment and names every mistake
// in one error.
func loadConfig(environ map[string]string) (Config, error) {
	cfg, err := env.ParseAsWithOptions[Config](env.Options{Environment: environ})
	var mistakes []error
	if aggregate, ok := errors.AsType[env.AggregateError](err); ok {
		for _, err := range aggregate.Errors {
			mistakes = append(mistakes, nameSetting(err))
		}
	} else if err != nil {
		mistakes = append(mistakes, err)
	}
	if cfg.DatabaseURL == "" {
		cfg.DatabaseURL = environ["DATABASE_URL"]
	}
	if len(cfg.Channels) == 0 {
		cfg.Channels = pg.DefaultChannels()
	}
	mistakes = append(mistakes, cfg.validate(mistakes)...)
	if len(mistakes) == 0 {
		return cfg, nil
	}
	lines := make([]string, len(mistakes))
	for i, mistake := range mistakes {
		lines[i] = "  " + mistake.Error()
	}
	return cfg, fmt.Errorf("configuration:\n%s", strings.Join(lines, "\n"))
}

// nameSetting turns a parse error, which names the field, into one that names the
// setting.
func nameSetting(err error) error {
	if parse, ok := errors.AsType[env.ParseError](err); ok {
		if field, ok := reflect.TypeFor[Config]().FieldByName(parse.Name); ok {
			return fmt.Errorf("%s: %w: want %s", field.Tag.Get("env"), parse.Err, accepted(field.Type))
		}
	}
	return err
}

// accepted says how values of a setting's type are written.
func accepted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 5s or 1m30s"
	case reflect.TypeFor[slog.Level]():
		return "debug, info, warn or error"
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[float64]():
		return "a number"
	}
	return "a whole number"
}

// validate returns what is wrong with values that parsed; a field that did not has
// been named in parsed already.
func (c Config) validate(parsed []error) (mistakes []error) {
	check := func(ok bool, name, format string, args ...any) {
		named := slices.ContainsFunc(parsed, func(err error) bool { return strings.HasPrefix(err.Error(), name+":") })
		if !ok && !named {
			mistakes = append(mistakes, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
		}
	}
	host, port, err := net.SplitHostPort(c.ListenAddr)
	check(err == nil && validPort(port), "ATTUNE_LISTEN_ADDR", "%q: want host:port, such as 127.0.0.1:8081", c.ListenAddr)
	check(err != nil || c.Insecure || c.authenticates() || isLoopback(host), "ATTUNE_LISTEN_ADDR",
		"%q is not a loopback address, and authentication is off: set ATTUNE_JWT_SECRET, ATTUNE_JWT_PUBLIC_KEY_FILE or ATTUNE_JWKS_URL, or listen on 127.0.0.1 behind a proxy that authenticates, or set ATTUNE_INSECURE=true if everybody who can reach the address may see and start everything", c.ListenAddr)
	if c.MetricsAddr != "" {
		_, port, err := net.SplitHostPort(c.MetricsAddr)
		check(err == nil && validPort(port), "ATTUNE_METRICS_ADDR", "%q: want host:port, such as 127.0.0.1:9090", c.MetricsAddr)
	}
	for _, s := range []struct{ name, url string }{{"ATTUNE_DATABASE_URL", c.DatabaseURL}, {"ATTUNE_LISTEN_URL", c.ListenURL}} {
		if s.url != "" {
			err := pg.CheckURL(s.url)
			check(err == nil, s.name, "%v", err)
		}
	}
	check(c.ListenURL == "" || c.DatabaseURL != "", "ATTUNE_LISTEN_URL", "is for a database of yours: set ATTUNE_DATABASE_URL too")
	check(c.Schema != "" && len(c.Schema) <= 63, "ATTUNE_SCHEMA", "%q: want a name of 1 to 63 bytes", c.Schema)
	if err := pg.ValidateChannels(c.Channels); err != nil {
		check(false, "ATTUNE_CHANNELS", "%v", err)
	}
	check(c.CanaryInterval >= 100*time.Millisecond && c.CanaryInterval <= time.Hour, "ATTUNE_CANARY_INTERVAL", "%s: want 100ms to 1h", c.CanaryInterval)
	check(slices.Contains([]string{sourceAuto, sourceListen, sourceLog}, c.Source), "ATTUNE_SOURCE", "%q: want auto, listen or log", c.Source)
	check(c.QueueBytes >= 1024, "ATTUNE_QUEUE_BYTES", "%d: want 1024 or more", c.QueueBytes)
	check(c.QueueSize >= 1 && c.QueueSize <= 1_000_000, "ATTUNE_QUEUE_SIZE", "%d: want 1 to 1000000", c.QueueSize)
	check(c.MaxConnections >= 0, "ATTUNE_MAX_CONNECTIONS", "%d: want 0 or more", c.MaxConnections)
	check(c.MaxPerAddress >= 0, "ATTUNE_MAX_CONNECTIONS_PER_ADDRESS", "%d: want 0 or more", c.MaxPerAddress)
	check(c.MaxPerUser >= 0, "ATTUNE_MAX_CONNECTIONS_PER_IDENTITY", "%d: want 0 or more", c.MaxPerUser)
	for name, rate := range map[string]float64{"ATTUNE_REQUEST_RATE": c.RequestRate, "ATTUNE_REQUEST_RATE_PER_ADDRESS": c.AddressRate, "ATTUNE_SUBSCRIBE_RATE": c.SubscribeRate} {
		check(rate >= 0 && rate <= 1e6, name, "%v: want 0 to 1000000", rate)
	}
	_, err = attunehttp.ParseProxies(c.TrustedProxies)
	check(err == nil, "ATTUNE_TRUSTED_PROXIES", "%v", err)
	check((c.TLSCert == "") == (c.TLSKey == ""), "ATTUNE_TLS_CERT_FILE", "is for use with ATTUNE_TLS_KEY_FILE: set both or none")
	check(c.MaxFilters >= 0, "ATTUNE_MAX_FILTERS", "%d: want 0 or more", c.MaxFilters)
	check(c.WindowBytes >= 1024, "ATTUNE_WINDOW_BYTES", "%d: want 1024 or more", c.WindowBytes)
	check(c.WindowSize >= 0 && c.WindowSize <= 10_000_000, "ATTUNE_WINDOW_SIZE", "%d: want 0 to 10000000", c.WindowSize)
	check(c.LogMaxAge == 0 || c.LogMaxAge >= time.Minute, "ATTUNE_LOG_MAX_AGE", "%s: want 0 or 1m or more", c.LogMaxAge)
	check(c.LogMaxRows >= 0, "ATTUNE_LOG_MAX_ROWS", "%d: want 0 or more", c.LogMaxRows)
	check(c.Drain >= 0 && c.Drain <= 10*time.Minute, "ATTUNE_DRAIN", "%s: want 0s to 10m", c.Drain)
	_, err = strconv.ParseBool(string(c.Runner))
	check(err == nil || c.Runner == runnerAuto, "ATTUNE_RUNNER", "%q: want true, false or auto", c.Runner)
	check(c.Workers >= 1 && c.Workers <= 10_000, "ATTUNE_WORKERS", "%d: want 1 to 10000", c.Workers)
	mistakes = append(mistakes, c.validateAuth()...)
	for _, origin := range c.AllowedOrigins {
		u, err := url.Parse(origin)
		check(err == nil && u.Host != "" && u.Scheme+"://"+u.Host == origin, "ATTUNE_ALLOWED_ORIGINS",
			"%q: want an origin such as https://app.example.com", origin)
	}
	check(c.LogFormat == "text" || c.LogFormat == "json", "ATTUNE_LOG_FORMAT", "%q: want text or json", c.LogFormat)
	return mistakes
}

func validPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// isLoopback reports whether only this machine can reach host.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
