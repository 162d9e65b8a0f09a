package main

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// What is said on the wire: protocol ids, the two JSON structs, and how an event is signed.
// Nothing here opens a stream.

const (
	protoHeartbeatPartner = protocol.ID("/opencloud/resource/heartbeat/partner/1.0")
	protoProbe            = protocol.ID("/opencloud/probe/1.0")
)

var resourceProtocols = map[string]protocol.ID{
	"create":    "/opencloud/resource/create/1.0",
	"update":    "/opencloud/resource/update/1.0",
	"delete":    "/opencloud/resource/delete/1.0",
	"considers": "/opencloud/resource/considers/1.0",
	"planner":   "/opencloud/resource/planner/1.0",
	"search":    "/opencloud/resource/search/1.0",
}

// protocolOf takes a short name or a full id; the full id lets a test speak any protocol.
func protocolOf(name string) (protocol.ID, bool) {
	if id, ok := resourceProtocols[name]; ok {
		return id, true
	}
	switch name {
	case "heartbeat":
		return protoHeartbeatPartner, true
	case "probe":
		return protoProbe, true
	}
	if len(name) > 0 && name[0] == '/' {
		return protocol.ID(name), true
	}
	return "", false
}

// shortName is the inverse of protocolOf, for the events printed.
func shortName(id protocol.ID) string {
	for name, known := range resourceProtocols {
		if known == id {
			return name
		}
	}
	switch id {
	case protoHeartbeatPartner:
		return "heartbeat"
	case protoProbe:
		return "probe"
	}
	return string(id)
}

// Heartbeat is what the opener of a partner stream repeats.
type Heartbeat struct {
	Name   string `json:"name"`
	DID    string `json:"did"`
	PeerID string `json:"peer_id"`
}

// Event is one value on a resource stream. The order of the fields is the order they are signed in.
type Event struct {
	Type      string    `json:"type"`
	From      string    `json:"from"`
	User      string    `json:"User"`
	DataType  int64     `json:"datatype"`
	Timestamp time.Time `json:"ts"`
	Payload   []byte    `json:"payload"`
	Signature []byte    `json:"sig"`
}

// signedBytes are the bytes a signature is made over: the event itself without one.
func (e Event) signedBytes() ([]byte, error) {
	e.Signature = nil
	return json.Marshal(e)
}

func (e *Event) sign(key crypto.PrivKey) error {
	body, err := e.signedBytes()
	if err != nil {
		return err
	}
	e.Signature, err = key.Sign(body)
	return err
}

func (e Event) verify(key crypto.PubKey) bool {
	if len(e.Signature) == 0 || key == nil {
		return false
	}
	body, err := e.signedBytes()
	if err != nil {
		return false
	}
	ok, err := key.Verify(body, e.Signature)
	return err == nil && ok
}

// isQuestion tells a search question from an answer, both come on the search protocol: a question
// is an object that has `search` and otherwise only keys a question may have.
func isQuestion(payload []byte) (string, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) != nil {
		return "", false
	}
	raw, ok := fields["search"]
	if !ok {
		return "", false
	}
	for key := range fields {
		switch key {
		case "search", "id", "limit", "timeout_ms", "datatype":
		default:
			return "", false
		}
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return "", false
	}
	return text, true
}

// compactJSON is the payload as a JSON value for the printed events, or nil when it is not JSON.
func compactJSON(payload []byte) json.RawMessage {
	if !json.Valid(payload) {
		return nil
	}
	var out bytes.Buffer
	if json.Compact(&out, payload) != nil {
		return nil
	}
	return out.Bytes()
}
