package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// command is one line of stdin. Every command may carry `ref`, which its answer repeats.
type command struct {
	Cmd      string          `json:"cmd"`
	Ref      json.RawMessage `json:"ref"`
	Addr     string          `json:"addr"`
	Protocol string          `json:"protocol"`

	Type       string          `json:"type"`
	From       string          `json:"from"`
	User       string          `json:"user"`
	DataType   int64           `json:"datatype"`
	Payload    json.RawMessage `json:"payload"`
	PayloadB64 *string         `json:"payload_b64"`
	Sign       *bool           `json:"sign"`
	Forge      bool            `json:"forge"`

	PeriodMS int64   `json:"period_ms"`
	Beats    int     `json:"beats"`
	Retry    bool    `json:"retry"`
	DID      *string `json:"did"`
	Name     *string `json:"name"`
	PeerID   *string `json:"peer_id"`

	Count      int    `json:"count"`
	Size       int    `json:"size"`
	IDPrefix   string `json:"id_prefix"`
	NewStreams bool   `json:"new_streams"`

	Base64     string `json:"base64"`
	Text       string `json:"text"`
	Repeat     int    `json:"repeat"`
	DelayMS    int64  `json:"delay_ms_per_byte"`
	AfterMS    int64  `json:"after_ms"`
	Close      bool   `json:"close"`
	ResetAfter bool   `json:"reset"`
	Stream     *int   `json:"stream"`

	List  []resource `json:"list"`
	Match bool       `json:"match"`
	Apart bool       `json:"apart"`

	Key string `json:"key"`

	Quiet     *bool   `json:"quiet"`
	Accept    *bool   `json:"accept_partners"`
	Challenge *bool   `json:"challenge"`
	Probe     *string `json:"probe"`
}

// control runs the commands in the order they come, until `exit` or the end of stdin. The long
// ones (burst, raw, open_many) run beside it and answer when they are done.
func (n *node) control(in io.Reader) error {
	lines := bufio.NewReader(in)
	var background sync.WaitGroup
	defer background.Wait()
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var c command
			if err := json.Unmarshal(line, &c); err != nil {
				emit("error", fields{"cmd": "", "message": "the command is not JSON of the known shape: " + err.Error()})
			} else if c.Cmd == "exit" {
				answer(&c, nil, nil)
				os.Exit(0)
			} else {
				switch c.Cmd {
				case "burst", "raw", "open_many":
					background.Add(1)
					go func() {
						defer background.Done()
						more, err := n.execute(&c)
						answer(&c, more, err)
					}()
				default:
					more, err := n.execute(&c)
					answer(&c, more, err)
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func answer(c *command, more fields, err error) {
	if more == nil {
		more = fields{}
	}
	more["cmd"] = c.Cmd
	if len(c.Ref) > 0 {
		more["ref"] = c.Ref
	}
	if err != nil {
		more["message"] = err.Error()
		emit("error", more)
		return
	}
	emit("ok", more)
}

func (n *node) execute(c *command) (fields, error) {
	switch c.Cmd {
	case "connect", "partner", "stop_partner", "send", "burst", "close_stream", "raw", "open_many", "disconnect", "protocols", "kad_ask":
		remote, err := n.target(c.Addr)
		if err != nil {
			return nil, err
		}
		more, err := n.towards(remote, c)
		if more == nil {
			more = fields{}
		}
		more["remote"] = remote.String()
		return more, err
	case "resources":
		n.mu.Lock()
		defer n.mu.Unlock()
		n.resources, n.match, n.apart = c.List, c.Match, c.Apart
		return fields{"count": len(c.List)}, nil
	case "kad_serve":
		n.serveKad(protocol.ID(c.Protocol))
		return nil, nil
	case "kad_keep":
		return nil, n.keepKad(c.Key, c.Base64)
	case "reply":
		n.reply(protocol.ID(c.Protocol), c.Text, max(c.Repeat, 1), time.Duration(c.AfterMS)*time.Millisecond)
		return nil, nil
	case "configure":
		return nil, n.configure(c)
	case "counts":
		n.mu.Lock()
		defer n.mu.Unlock()
		counts := fields{}
		for name, count := range n.counts {
			counts[name] = *count
		}
		return fields{"counts": counts}, nil
	case "status":
		return n.status(), nil
	}
	return nil, fmt.Errorf("unknown command %q", c.Cmd)
}

func (n *node) towards(remote peer.ID, c *command) (fields, error) {
	switch c.Cmd {
	case "connect":
		return nil, n.connect(remote)
	case "disconnect":
		return nil, n.host.Network().ClosePeer(remote)
	case "partner":
		b := beats{period: heartbeatEvery, count: c.Beats, retry: c.Retry,
			claim: Heartbeat{Name: n.name, DID: n.ownDID(), PeerID: n.host.ID().String()}}
		if c.PeriodMS > 0 {
			b.period = time.Duration(c.PeriodMS) * time.Millisecond
		}
		if c.DID != nil {
			b.claim.DID = *c.DID
		}
		if c.Name != nil {
			b.claim.Name = *c.Name
		}
		if c.PeerID != nil {
			b.claim.PeerID = *c.PeerID
		}
		return nil, n.keepPartner(remote, b)
	case "protocols":
		listed, err := n.host.Peerstore().GetProtocols(remote)
		return fields{"protocols": listed}, err
	case "kad_ask":
		return n.askKad(remote, c)
	case "stop_partner":
		if !n.stopPartner(remote) {
			return nil, errors.New("no partner stream is kept to that peer")
		}
		return nil, nil
	}
	proto, ok := protocolOf(c.Protocol)
	if !ok {
		return nil, fmt.Errorf("unknown protocol %q", c.Protocol)
	}
	switch c.Cmd {
	case "close_stream":
		if !n.closeLong(remote, proto) {
			return nil, fmt.Errorf("no %s stream is kept to that peer", c.Protocol)
		}
		return nil, nil
	case "send":
		payload := []byte(c.Payload)
		if c.PayloadB64 != nil {
			var err error
			if payload, err = base64.StdEncoding.DecodeString(*c.PayloadB64); err != nil {
				return nil, err
			}
		}
		e, err := n.build(c, payload)
		if err != nil {
			return nil, err
		}
		return nil, n.write(remote, proto, e)
	case "burst":
		return n.burst(remote, c)
	case "raw":
		return n.rawWrite(remote, c)
	default: // open_many
		return n.openMany(remote, c)
	}
}

// build makes the event of a command: its type is the protocol's name unless it says otherwise.
func (n *node) build(c *command, payload []byte) (*Event, error) {
	kind := c.Type
	if kind == "" {
		kind = c.Protocol
	}
	e, err := n.event(kind, c.From, c.User, c.DataType, payload, c.Sign == nil || *c.Sign)
	if err == nil && c.Forge && len(e.Signature) > 0 {
		e.Signature[0] ^= 1
	}
	return e, err
}

// burst writes `count` events as fast as the stream takes them. Each payload is a document of
// about `size` bytes with its own id and this peer as its creator.
func (n *node) burst(remote peer.ID, c *command) (fields, error) {
	proto, _ := protocolOf(c.Protocol)
	prefix := c.IDPrefix
	if prefix == "" {
		prefix = "burst"
	}
	started := time.Now()
	creator := n.ownDID()
	sent := 0
	var err error
	for ; sent < c.Count && err == nil; sent++ {
		document := map[string]any{
			"id": fmt.Sprintf("%s-%06d", prefix, sent), "name": fmt.Sprintf("burst %d", sent),
			"creator_id": creator, "n": sent,
		}
		body, _ := json.Marshal(document)
		if pad := c.Size - len(body) - len(`,"pad":""`); pad > 0 {
			document["pad"] = string(bytes.Repeat([]byte{'x'}, pad))
			body, _ = json.Marshal(document)
		}
		var e *Event
		if e, err = n.build(c, body); err != nil {
			break
		}
		if c.NewStreams {
			var s network.Stream
			if s, err = n.open(remote, proto); err == nil {
				s.SetWriteDeadline(time.Now().Add(writeTimeout))
				err = json.NewEncoder(s).Encode(e)
				s.Close()
			}
		} else {
			err = n.write(remote, proto, e)
		}
		if err != nil {
			break
		}
	}
	return fields{"count": sent, "seconds": time.Since(started).Seconds()}, err
}

// reply answers each line on streams of a protocol with the same bytes, `repeat` times over; no bytes: it reads and says
// nothing. Each answer is that much late.
func (n *node) reply(proto protocol.ID, text string, repeat int, after time.Duration) {
	n.host.SetStreamHandler(proto, func(s network.Stream) {
		defer s.Close()
		lines := bufio.NewReader(s)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			emit("asked", fields{"protocol": proto, "remote": s.Conn().RemotePeer().String(), "text": line})
			time.Sleep(after)
			for range repeat {
				if text == "" {
					break
				}
				if _, err := io.WriteString(s, text); err != nil {
					return
				}
			}
		}
	})
}

// rawWrite writes bytes as they are, on a stream of its own or on one an earlier `raw` left open.
// What comes back is printed, up to 64 KiB of it.
func (n *node) rawWrite(remote peer.ID, c *command) (fields, error) {
	body := []byte(c.Text)
	if c.Base64 != "" {
		var err error
		if body, err = base64.StdEncoding.DecodeString(c.Base64); err != nil {
			return nil, err
		}
	}
	id, s, err := n.rawStream(remote, c)
	if err != nil {
		return nil, err
	}
	more := fields{"stream": id}
	written := 0
	for round := 0; round < max(c.Repeat, 1) && err == nil; round++ {
		chunk := len(body)
		if c.DelayMS > 0 {
			chunk = 1
		}
		for at := 0; at < len(body) && err == nil; at += chunk {
			if at > 0 && c.DelayMS > 0 {
				time.Sleep(time.Duration(c.DelayMS) * time.Millisecond)
			}
			var count int
			s.SetWriteDeadline(time.Now().Add(writeTimeout))
			count, err = s.Write(body[at : at+chunk])
			written += count
		}
	}
	more["written"] = written
	if c.ResetAfter {
		s.Reset()
	} else if c.Close && err == nil {
		err = s.CloseWrite()
	}
	return more, err
}

func (n *node) rawStream(remote peer.ID, c *command) (int, network.Stream, error) {
	if c.Stream != nil {
		n.mu.Lock()
		s, ok := n.raw[*c.Stream]
		n.mu.Unlock()
		if !ok {
			return 0, nil, fmt.Errorf("no raw stream %d is open", *c.Stream)
		}
		return *c.Stream, s, nil
	}
	proto, _ := protocolOf(c.Protocol)
	s, err := n.open(remote, proto)
	if err != nil {
		return 0, nil, err
	}
	n.mu.Lock()
	id := n.rawNext
	n.rawNext++
	n.raw[id] = s
	n.mu.Unlock()
	go func() {
		shown := 0
		err := watch(s, func(seen []byte) {
			if shown+len(seen) <= probeLimit {
				emit("raw_read", fields{"stream": id, "base64": base64.StdEncoding.EncodeToString(seen)})
			}
			shown += len(seen)
		})
		emit("raw_end", fields{"stream": id, "read": shown, "how": endOf(err), "message": err.Error()})
		if err != io.EOF {
			n.mu.Lock()
			delete(n.raw, id)
			n.mu.Unlock()
		}
	}()
	return id, s, nil
}

// openMany opens streams and leaves them open and silent; their ends are counted, not printed
// one by one. The answer comes when each has been negotiated or refused.
func (n *node) openMany(remote peer.ID, c *command) (fields, error) {
	proto, _ := protocolOf(c.Protocol)
	opened, refused, first := 0, 0, ""
	for i := 0; i < c.Count; i++ {
		s, err := n.open(remote, proto)
		if err == nil {
			// A stream is negotiated with its first bytes; a space is no JSON yet and no mistake.
			s.SetWriteDeadline(time.Now().Add(writeTimeout))
			_, err = s.Write([]byte{' '})
		}
		if err != nil {
			refused++
			if first == "" {
				first = err.Error()
			}
			continue
		}
		opened++
		go func() {
			err := watch(s, nil)
			emit("many_end", fields{"protocol": shortName(proto), "how": endOf(err), "message": err.Error()})
			s.Reset()
		}()
	}
	return fields{"opened": opened, "refused": refused, "first_refusal": first}, nil
}

func (n *node) configure(c *command) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.Probe != nil {
		switch *c.Probe {
		case "echo", "corrupt", "short", "long", "endless", "silent", "reset":
			n.probe = *c.Probe
		default:
			return fmt.Errorf("unknown probe mode %q", *c.Probe)
		}
	}
	if c.Quiet != nil {
		n.quiet = *c.Quiet
	}
	if c.Accept != nil {
		n.acceptPartners = *c.Accept
	}
	if c.Challenge != nil {
		n.challenge = *c.Challenge
	}
	if c.DID != nil {
		n.did = *c.DID
	}
	return nil
}

func (n *node) status() fields {
	peers := []string{}
	for _, id := range n.host.Network().Peers() {
		peers = append(peers, id.String())
	}
	n.outMu.Lock()
	streams := []fields{}
	for key := range n.out {
		streams = append(streams, fields{"protocol": shortName(key.proto), "remote": key.remote.String()})
	}
	n.outMu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	partners := []string{}
	for id := range n.partnersIn {
		partners = append(partners, id.String())
	}
	return fields{"peers": peers, "streams": streams, "partners_in": partners}
}
