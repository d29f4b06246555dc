package main

import (
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"attache/configs"
)

// Environment variables that are read here and are no keys of the configuration.
const (
	configVariable         = "ATTACHE_CONFIG"
	serverVariable         = "ATTACHE_SERVER"
	adminTokenVariable     = "ATTACHE_ADMIN_TOKEN"
	adminTokenFileVariable = "ATTACHE_ADMIN_TOKEN_FILE"
	integrationVariable    = "ATTACHE_INTEGRATION"
)

// register adds the flags of configuration keys to a command, all of them that
// are not there yet or only those named.
func (a *app) register(to *pflag.FlagSet, names ...string) {
	for _, f := range a.flags {
		if len(names) > 0 && !slices.Contains(names, f.Name) || len(names) == 0 && f.Name == "data-dir" {
			continue
		}
		to.VarPF(f, f.Name, "", f.Usage).NoOptDefVal = f.Bare
	}
}

// configPath is the config file that was named, if one was.
func (a *app) configPath() string {
	if a.configFile != "" {
		return a.configFile
	}
	path, _ := a.lookup(configVariable)
	return path
}

// loadConfig is the configuration from flags, environment, file and defaults,
// with an absolute data directory.
func (a *app) loadConfig() (configs.Config, error) {
	path := a.configPath()
	cfg := configs.Default()
	if path != "" {
		var err error
		if cfg, err = configs.Load(path); err != nil {
			return configs.Config{}, err
		}
	}
	if err := cfg.ApplyEnvironment(a.lookup); err != nil {
		return configs.Config{}, err
	}
	for _, f := range a.flags {
		if err := f.Apply(&cfg); err != nil {
			return configs.Config{}, err
		}
	}
	if err := cfg.Validate(); err != nil {
		return configs.Config{}, err
	}
	if cfg.DataDir == "" {
		dir, err := configs.DefaultDataDir(a.lookup)
		if err != nil {
			return configs.Config{}, err
		}
		cfg.DataDir = dir
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return configs.Config{}, err
	}
	cfg.DataDir = dir
	return cfg, nil
}

// dataDirFlag is what a command that we print needs, after the program's name, to
// be about a data directory: nothing where it is the default one.
func (a *app) dataDirFlag(dir string) string {
	if standard, err := configs.DefaultDataDir(a.lookup); err == nil && standard == dir {
		return ""
	}
	return " --data-dir " + shellQuoted(dir)
}

// warnOfVariables warns of those that look like keys and are none.
func (a *app) warnOfVariables() {
	for _, w := range configs.UnknownVariables(a.environ, configVariable, serverVariable, adminTokenVariable, adminTokenFileVariable, integrationVariable) {
		a.warn("%s", w)
	}
}
