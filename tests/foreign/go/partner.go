package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The partner heartbeat in both directions, and the bandwidth challenge that goes with it.

const (
	partnerExpiry  = 10 * time.Second
	heartbeatEvery = 3 * time.Second
	probeTimeout   = 5 * time.Second
	probeSize      = 32 << 10
	probeLimit     = 64 << 10
)

// beats says how a partner stream is driven.
type beats struct {
	period time.Duration
	count  int // 0: until stopped; else the stream stays open and silent afterwards
	retry  bool
	claim  Heartbeat
}

// keepPartner holds a partner stream to `remote` until it is stopped. The first attempt's result
// is what it returns; the rest runs on.
func (n *node) keepPartner(remote peer.ID, b beats) error {
	n.stopPartner(remote)
	ctx, cancel := context.WithCancel(context.Background())
	n.mu.Lock()
	n.partnersOut[remote] = cancel
	n.mu.Unlock()

	first := make(chan error, 1)
	go func() {
		defer cancel()
		for {
			err := n.beat(ctx, remote, b, func() {
				select {
				case first <- nil:
				default:
				}
				emit("partner_up", fields{"remote": remote.String(), "dir": "out"})
			})
			select {
			case first <- err:
			default:
			}
			if ctx.Err() != nil || !b.retry {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(b.period):
			}
		}
	}()
	return <-first
}

func (n *node) stopPartner(remote peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	cancel, ok := n.partnersOut[remote]
	if ok {
		cancel()
		delete(n.partnersOut, remote)
	}
	return ok
}

// beat opens one partner stream and writes heartbeats until it fails or is stopped.
func (n *node) beat(ctx context.Context, remote peer.ID, b beats, up func()) error {
	if err := n.connect(remote); err != nil {
		return err
	}
	s, err := n.open(remote, protoHeartbeatPartner)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- watch(s, nil) }()

	down := func(reason string, err error) error {
		more := fields{"remote": remote.String(), "dir": "out", "reason": reason}
		if err != nil {
			more["message"] = err.Error()
		}
		emit("partner_down", more)
		return err
	}
	encoder := json.NewEncoder(s)
	ticker := time.NewTicker(b.period)
	defer ticker.Stop()
	for sent := 0; ; {
		if b.count == 0 || sent < b.count {
			s.SetWriteDeadline(time.Now().Add(partnerExpiry))
			if err := encoder.Encode(b.claim); err != nil {
				s.Reset()
				if sent == 0 {
					return err
				}
				return down("write", err)
			}
			sent++
			if sent == 1 {
				up()
			}
		}
		select {
		case <-ctx.Done():
			s.Close()
			return down("stopped", nil)
		case err := <-ended:
			s.Reset()
			if err == io.EOF {
				return down("closed", err)
			}
			return down("reset", err)
		case <-ticker.C:
		}
	}
}

// servePartner is the receiver: the first heartbeat, the challenge, then a lease that every
// further heartbeat renews.
func (n *node) servePartner(s network.Stream) {
	remote := s.Conn().RemotePeer()
	decoder := json.NewDecoder(s)
	var hb Heartbeat
	s.SetReadDeadline(time.Now().Add(partnerExpiry))
	if err := decoder.Decode(&hb); err != nil {
		s.Reset()
		emit("partner_refused", fields{"remote": remote.String(), "reason": err.Error()})
		return
	}
	started := time.Now()
	if err := n.checkHeartbeat(remote, hb); err != nil {
		s.Reset()
		emit("partner_refused", fields{"remote": remote.String(), "did": hb.DID, "reason": err.Error()})
		return
	}
	n.mu.Lock()
	old := n.partnersIn[remote]
	n.partnersIn[remote] = s
	n.mu.Unlock()
	if old != nil {
		old.Reset()
	}
	emit("partner_up", fields{
		"remote": remote.String(), "dir": "in", "did": hb.DID, "name": hb.Name,
		"challenge_ms": float64(time.Since(started).Microseconds()) / 1000,
	})

	renewed := 0
	reason := "closed"
	for {
		s.SetReadDeadline(time.Now().Add(partnerExpiry))
		err := decoder.Decode(&hb)
		if err == nil {
			renewed++
			emit("heartbeat", fields{"remote": remote.String(), "did": hb.DID, "n": renewed})
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err) {
			reason = "expired"
		} else if err != io.EOF {
			reason = err.Error()
		}
		break
	}
	s.Reset()
	n.mu.Lock()
	if n.partnersIn[remote] == s {
		delete(n.partnersIn, remote)
	} else {
		reason = "replaced"
	}
	n.mu.Unlock()
	emit("partner_down", fields{"remote": remote.String(), "dir": "in", "did": hb.DID, "reason": reason, "beats": renewed})
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (n *node) checkHeartbeat(remote peer.ID, hb Heartbeat) error {
	n.mu.Lock()
	accept, challenge := n.acceptPartners, n.challenge
	n.mu.Unlock()
	if !accept {
		return errors.New("no partners wanted")
	}
	if hb.PeerID != remote.String() {
		return fmt.Errorf("the heartbeat names peer %q, the connection is %s", hb.PeerID, remote)
	}
	if !challenge {
		return nil
	}
	return n.challengePeer(remote)
}

// challengePeer sends random bytes to the opener, who must echo them.
func (n *node) challengePeer(remote peer.ID) error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	s, err := n.host.NewStream(ctx, remote, protoProbe)
	if err != nil {
		return fmt.Errorf("challenge: %w", err)
	}
	s.SetDeadline(time.Now().Add(probeTimeout))
	question := make([]byte, probeSize)
	rand.Read(question)
	if _, err = s.Write(question); err == nil {
		err = s.CloseWrite()
	}
	if err != nil {
		s.Reset()
		return fmt.Errorf("challenge: %w", err)
	}
	echo, err := io.ReadAll(io.LimitReader(s, probeLimit))
	if err != nil {
		s.Reset()
		return fmt.Errorf("challenge: %w", err)
	}
	s.Close()
	if !bytes.Equal(question, echo) {
		return fmt.Errorf("challenge: %d bytes came back and are not the %d sent", len(echo), len(question))
	}
	return nil
}

// serveProbe echoes a challenge to its end, or misbehaves when a test asks it to.
func (n *node) serveProbe(s network.Stream) {
	n.mu.Lock()
	mode := n.probe
	n.mu.Unlock()
	remote := s.Conn().RemotePeer().String()
	var echoed int64
	var err error
	switch mode {
	case "silent":
		s.SetReadDeadline(time.Now().Add(4 * probeTimeout))
		_, err = io.Copy(io.Discard, io.LimitReader(s, probeLimit))
		watch(s, nil)
		s.Reset()
	case "reset":
		s.Reset()
	case "corrupt", "short", "long", "endless":
		s.SetDeadline(time.Now().Add(4 * probeTimeout))
		var question []byte
		question, err = io.ReadAll(io.LimitReader(s, probeLimit))
		if err == nil && len(question) > 0 {
			switch mode {
			case "corrupt":
				question[len(question)/2] ^= 1
			case "short":
				question = question[:len(question)-1]
			case "long":
				question = append(question, 0)
			}
			for {
				var wrote int
				wrote, err = s.Write(question)
				echoed += int64(wrote)
				if err != nil || mode != "endless" {
					break
				}
			}
		}
		s.Close()
	default:
		s.SetDeadline(time.Now().Add(probeTimeout))
		echoed, err = io.Copy(s, io.LimitReader(s, probeLimit))
		if err != nil {
			s.Reset()
		} else {
			s.Close()
		}
	}
	more := fields{"remote": remote, "mode": mode, "bytes": echoed}
	if err != nil {
		more["message"] = err.Error()
	}
	emit("probed", more)
}
