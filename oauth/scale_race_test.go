//go:build race

package oauth_test

// monthly is how many connections live through a month. The race detector makes
// each of them five times as slow.
const monthly = 150
