package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

const (
	dialTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
)

// resource is one document this peer answers searches with.
type resource struct {
	DataType int64           `json:"datatype"`
	Document json.RawMessage `json:"resource"`
}

// tally counts what came in on one protocol.
type tally struct {
	Events   int `json:"events"`
	Verified int `json:"verified"`
	Bytes    int `json:"bytes"`
}

type outKey struct {
	proto  protocol.ID
	remote peer.ID
}

// outStream is one long-lived stream and the encoder that writes on it.
type outStream struct {
	sync.Mutex
	stream  network.Stream
	encoder *json.Encoder
}

// node is this peer: its host, the streams it keeps and what it was told by commands.
type node struct {
	host host.Host
	key  crypto.PrivKey
	did  string
	name string

	outMu sync.Mutex
	out   map[outKey]*outStream

	mu             sync.Mutex
	last           peer.ID
	resources      []resource
	match          bool
	apart          bool
	quiet          bool
	counts         map[string]*tally
	partnersOut    map[peer.ID]context.CancelFunc
	partnersIn     map[peer.ID]network.Stream
	acceptPartners bool
	challenge      bool
	probe          string
	raw            map[int]network.Stream
	rawNext        int
	kadKept        map[string][]byte
}

func newPeer(h host.Host, key crypto.PrivKey, s settings) *node {
	return &node{
		host: h, key: key, did: s.did, name: s.name,
		out:            map[outKey]*outStream{},
		counts:         map[string]*tally{},
		partnersOut:    map[peer.ID]context.CancelFunc{},
		partnersIn:     map[peer.ID]network.Stream{},
		raw:            map[int]network.Stream{},
		kadKept:        map[string][]byte{},
		acceptPartners: true,
		challenge:      true,
		probe:          "echo",
	}
}

// serve registers every protocol this peer answers on.
func (n *node) serve() {
	for name, id := range resourceProtocols {
		n.host.SetStreamHandler(id, func(s network.Stream) { n.readEvents(name, s) })
	}
	n.host.SetStreamHandler(protoHeartbeatPartner, n.servePartner)
	n.host.SetStreamHandler(protoProbe, n.serveProbe)
}

// target finds out whom a command means: a multiaddr with /p2p/, a PeerId, or nobody, which is
// the peer spoken to last.
func (n *node) target(addr string) (peer.ID, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case addr == "":
		if n.last == "" {
			return "", errors.New("no peer was named yet: give `addr`")
		}
		return n.last, nil
	case strings.HasPrefix(addr, "/"):
		info, err := peer.AddrInfoFromString(addr)
		if err != nil {
			return "", fmt.Errorf("`addr` is no multiaddr ending in /p2p/<PeerId>: %w", err)
		}
		n.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.PermanentAddrTTL)
		n.last = info.ID
	default:
		id, err := peer.Decode(addr)
		if err != nil {
			return "", fmt.Errorf("`addr` is neither a multiaddr nor a PeerId: %w", err)
		}
		n.last = id
	}
	return n.last, nil
}

// connect dials unless connected; a dial asked for by a command ignores the back-off of earlier ones.
func (n *node) connect(remote peer.ID) error {
	if s, ok := n.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(remote)
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	return n.host.Connect(ctx, peer.AddrInfo{ID: remote})
}

// open makes a new stream and watches its reading side for the end.
func (n *node) open(remote peer.ID, proto protocol.ID) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	return n.host.NewStream(ctx, remote, proto)
}

// longLived gives the kept stream for (protocol, remote), and opens it when there is none.
func (n *node) longLived(remote peer.ID, proto protocol.ID) (*outStream, error) {
	n.outMu.Lock()
	defer n.outMu.Unlock()
	key := outKey{proto, remote}
	if kept, ok := n.out[key]; ok {
		return kept, nil
	}
	if err := n.connect(remote); err != nil {
		return nil, err
	}
	s, err := n.open(remote, proto)
	if err != nil {
		return nil, err
	}
	kept := &outStream{stream: s, encoder: json.NewEncoder(s)}
	n.out[key] = kept
	emit("stream_open", fields{"protocol": shortName(proto), "remote": remote.String(), "dir": "out"})
	go func() {
		err := watch(s, nil)
		// The far side ending its own direction leaves ours open, as it does for any Go writer.
		if err != io.EOF {
			n.forget(key, kept)
		}
		emitEnd(s, "out", err)
	}()
	return kept, nil
}

func (n *node) forget(key outKey, kept *outStream) {
	n.outMu.Lock()
	defer n.outMu.Unlock()
	if n.out[key] == kept {
		delete(n.out, key)
	}
}

// closeLong closes the kept stream of a protocol; false when there is none.
func (n *node) closeLong(remote peer.ID, proto protocol.ID) bool {
	n.outMu.Lock()
	key := outKey{proto, remote}
	kept, ok := n.out[key]
	delete(n.out, key)
	n.outMu.Unlock()
	if ok {
		kept.stream.Close()
	}
	return ok
}

// write sends one event on the kept stream. A failed stream is forgotten, so the next write
// opens a new one; nothing is written twice.
func (n *node) write(remote peer.ID, proto protocol.ID, event *Event) error {
	kept, err := n.longLived(remote, proto)
	if err != nil {
		return err
	}
	kept.Lock()
	defer kept.Unlock()
	kept.stream.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err := kept.encoder.Encode(event); err != nil {
		kept.stream.Reset()
		n.forget(outKey{proto, remote}, kept)
		return err
	}
	return nil
}

func (n *node) ownDID() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.did
}

// event builds one and signs it when asked.
func (n *node) event(kind, from, user string, datatype int64, payload []byte, sign bool) (*Event, error) {
	if from == "" {
		from = n.ownDID()
	}
	e := &Event{
		Type: kind, From: from, User: user, DataType: datatype,
		Timestamp: time.Now().UTC(), Payload: payload,
	}
	if !sign {
		return e, nil
	}
	return e, e.sign(n.key)
}

// readEvents is the handler of every resource protocol: decode until the stream ends.
func (n *node) readEvents(name string, s network.Stream) {
	remote := s.Conn().RemotePeer()
	emit("stream_open", fields{"protocol": name, "remote": remote.String(), "dir": "in"})
	decoder := json.NewDecoder(s)
	for {
		var e Event
		err := decoder.Decode(&e)
		if err != nil {
			if err != io.EOF {
				s.Reset()
			} else {
				s.Close()
			}
			emitEnd(s, "in", err)
			return
		}
		n.received(name, remote, s.Conn().RemotePublicKey(), &e)
		if name == "search" {
			if text, ok := isQuestion(e.Payload); ok {
				n.answer(remote, &e, text)
			}
		}
	}
}

func (n *node) received(name string, remote peer.ID, key crypto.PubKey, e *Event) {
	verified := e.verify(key)
	n.mu.Lock()
	count, ok := n.counts[name]
	if !ok {
		count = &tally{}
		n.counts[name] = count
	}
	count.Events++
	count.Bytes += len(e.Payload)
	if verified {
		count.Verified++
	}
	quiet := n.quiet
	n.mu.Unlock()
	if quiet {
		return
	}
	emit("received", fields{
		"protocol":    name,
		"remote":      remote.String(),
		"from":        e.From,
		"type":        e.Type,
		"user":        e.User,
		"datatype":    e.DataType,
		"ts":          e.Timestamp,
		"payload":     compactJSON(e.Payload),
		"payload_b64": base64.StdEncoding.EncodeToString(e.Payload),
		"signed":      len(e.Signature) > 0,
		"verified":    verified,
	})
}

// answer opens a stream to the asker and writes one event per resource; or, apart, each on a stream of its own.
func (n *node) answer(remote peer.ID, question *Event, text string) {
	n.mu.Lock()
	resources, match, apart := n.resources, n.match, n.apart
	n.mu.Unlock()
	if len(resources) == 0 {
		return
	}
	go func() {
		sent := 0
		write := func(some []resource) error {
			s, err := n.open(remote, resourceProtocols["search"])
			if err != nil {
				return err
			}
			defer s.Close()
			s.SetWriteDeadline(time.Now().Add(writeTimeout))
			encoder := json.NewEncoder(s)
			for _, r := range some {
				e, err := n.event("search", "", question.User, r.DataType, r.Document, true)
				if err != nil {
					return err
				}
				if err := encoder.Encode(e); err != nil {
					return err
				}
				sent++
			}
			return nil
		}
		var found []resource
		for _, r := range resources {
			if !match || matches(r.Document, text) {
				found = append(found, r)
			}
		}
		var err error
		if apart {
			for i := range found {
				if err = write(found[i : i+1]); err != nil {
					break
				}
			}
		} else {
			err = write(found)
		}
		more := fields{"remote": remote.String(), "search": text, "count": sent}
		if err != nil {
			more["error"] = err.Error()
		}
		emit("answered", more)
	}()
}

func matches(document []byte, text string) bool {
	var words struct {
		Name  string `json:"name"`
		Long  string `json:"description"`
		Short string `json:"short_description"`
	}
	if json.Unmarshal(document, &words) != nil {
		return false
	}
	in := strings.ToLower(words.Name + "\n" + words.Long + "\n" + words.Short)
	return strings.Contains(in, strings.ToLower(text))
}

// watch reads a stream until it ends and says why; what was read goes to `seen`.
func watch(s network.Stream, seen func([]byte)) error {
	buffer := make([]byte, 4096)
	for {
		count, err := s.Read(buffer)
		if count > 0 && seen != nil {
			seen(buffer[:count])
		}
		if err != nil {
			return err
		}
	}
}

// endOf names the way a stream ended.
func endOf(err error) string {
	var reset *network.StreamError
	switch {
	case err == io.EOF:
		return "eof"
	case errors.As(err, &reset) || errors.Is(err, network.ErrReset):
		return "reset"
	}
	return "error"
}

func emitEnd(s network.Stream, dir string, err error) {
	emit("stream_end", fields{
		"protocol": shortName(s.Protocol()),
		"remote":   s.Conn().RemotePeer().String(),
		"dir":      dir,
		"how":      endOf(err),
		"message":  err.Error(),
	})
}
