package main

import (
	"net/netip"
	"testing"

	"attache/configs"
)

func TestOnlyTrafficThatNobodyRecordsIsWithoutTheHybridKeyExchange(t *testing.T) {
	for name, c := range map[string]struct {
		listen string
		by     configs.KeyExchange
		hybrid bool
	}{
		"auto on loopback":          {"127.0.0.1:3128", configs.KeyExchangeAuto, false},
		"auto on every interface":   {"0.0.0.0:3128", configs.KeyExchangeAuto, true},
		"auto on a network":         {"10.0.0.1:3128", configs.KeyExchangeAuto, true},
		"hybrid on loopback":        {"[::1]:3128", configs.KeyExchangeHybrid, true},
		"x25519 on every interface": {"[::]:3128", configs.KeyExchangeX25519, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configs.Config{Listen: netip.MustParseAddrPort(c.listen), KeyExchange: c.by}
			if hybrid := curves(cfg) == nil; hybrid != c.hybrid {
				t.Errorf("hybrid is %t, want %t", hybrid, c.hybrid)
			}
		})
	}
}
