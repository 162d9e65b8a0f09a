// A go-libp2p peer written the way a Go daemon of the federation is written, for testing
// oc-discovery against an implementation that shares nothing with it. It is driven by JSON
// commands on stdin, one a line, and prints JSON events on stdout, one a line; see README.md.
package main

import (
	"crypto/rand"
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

type settings struct {
	psk, key, did, name, listen, security, limits string
	noPSK                                         bool
}

func main() {
	var s settings
	flag.StringVar(&s.psk, "psk", "", "file of the network's pre-shared key")
	flag.BoolVar(&s.noPSK, "no-psk", false, "join an open network on purpose")
	flag.StringVar(&s.key, "key", "", "PKCS#8 PEM ed25519 key; made when missing; empty: a key for this run")
	flag.StringVar(&s.did, "did", "", "DID of this peer; empty: a random UUID")
	flag.StringVar(&s.name, "name", "foreign-go", "name told to partners")
	flag.StringVar(&s.listen, "listen", "/ip4/127.0.0.1/tcp/0", "multiaddr to listen on; empty: none")
	flag.StringVar(&s.security, "security", "both", "noise, tls or both")
	flag.StringVar(&s.limits, "limits", "default", "default: the library's resource limits; none: no limits, for hostile tests")
	flag.Parse()
	if s.did == "" {
		s.did = randomUUID()
	}
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "foreign-go:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	key, err := loadKey(s.key)
	if err != nil {
		return fmt.Errorf("cannot read or make the key: %w", err)
	}
	h, err := newHost(s, key)
	if err != nil {
		return err
	}
	defer h.Close()

	public, err := crypto.MarshalPublicKey(key.GetPublic())
	if err != nil {
		return err
	}
	p := newPeer(h, key, s)
	p.serve()

	addrs := []string{}
	for _, addr := range h.Addrs() {
		addrs = append(addrs, fmt.Sprintf("%s/p2p/%s", addr, h.ID()))
	}
	emit("ready", fields{
		"peer_id":    h.ID().String(),
		"public_key": base64.StdEncoding.EncodeToString(public),
		"addrs":      addrs,
		"did":        s.did,
		"name":       s.name,
		"pid":        os.Getpid(),
	})

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	done := make(chan error, 1)
	go func() { done <- p.control(os.Stdin) }()
	select {
	case <-signals:
		return nil
	case err := <-done:
		return err
	}
}

func newHost(s settings, key crypto.PrivKey) (host.Host, error) {
	options := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.UserAgent("foreign-go"),
	}
	if s.listen == "" {
		options = append(options, libp2p.NoListenAddrs)
	} else {
		options = append(options, libp2p.ListenAddrStrings(s.listen))
	}
	switch s.security {
	case "noise":
		options = append(options, libp2p.Security(noise.ID, noise.New))
	case "tls":
		options = append(options, libp2p.Security(libp2ptls.ID, libp2ptls.New))
	case "both":
		options = append(options,
			libp2p.Security(libp2ptls.ID, libp2ptls.New), libp2p.Security(noise.ID, noise.New))
	default:
		return nil, fmt.Errorf("--security is noise, tls or both, not %q", s.security)
	}
	switch {
	case s.psk != "" && s.noPSK:
		return nil, fmt.Errorf("--psk and --no-psk exclude each other")
	case s.psk != "":
		psk, err := loadPSK(s.psk)
		if err != nil {
			return nil, fmt.Errorf("cannot read the pre-shared key: %w", err)
		}
		options = append(options, libp2p.PrivateNetwork(psk))
	case !s.noPSK:
		return nil, fmt.Errorf("give --psk FILE, or --no-psk for an open network")
	}
	switch s.limits {
	case "default":
	case "none":
		manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits))
		if err != nil {
			return nil, err
		}
		options = append(options, libp2p.ResourceManager(manager))
	default:
		return nil, fmt.Errorf("--limits is default or none, not %q", s.limits)
	}
	h, err := libp2p.New(options...)
	if err != nil {
		return nil, err
	}
	h.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			emit("connected", fields{
				"remote":   c.RemotePeer().String(),
				"addr":     c.RemoteMultiaddr().String(),
				"dir":      direction(c.Stat().Direction),
				"security": string(c.ConnState().Security),
			})
		},
		DisconnectedF: func(n network.Network, c network.Conn) {
			emit("disconnected", fields{
				"remote": c.RemotePeer().String(),
				"left":   len(n.ConnsToPeer(c.RemotePeer())),
			})
		},
	})
	return h, nil
}

func direction(d network.Direction) string {
	if d == network.DirInbound {
		return "in"
	}
	return "out"
}

func randomUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
