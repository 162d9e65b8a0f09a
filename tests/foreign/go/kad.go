package main

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protowire"
)

// Three messages of Kademlia, by hand: enough to meet a DHT under any protocol id, with or without a slash in front.

const maxKadMessage = 64 << 10

var kadTypes = []string{"put_value", "get_value", "add_provider", "get_providers", "find_node", "ping"}

type kadMessage struct {
	kind   uint64
	key    []byte
	value  []byte
	closer []peer.ID
}

func (m *kadMessage) name() string {
	if m.kind < uint64(len(kadTypes)) {
		return kadTypes[m.kind]
	}
	return fmt.Sprint(m.kind)
}

func (m *kadMessage) marshal() []byte {
	out := protowire.AppendTag(nil, 1, protowire.VarintType)
	out = protowire.AppendVarint(out, m.kind)
	out = protowire.AppendTag(out, 2, protowire.BytesType)
	out = protowire.AppendBytes(out, m.key)
	if m.value != nil {
		record := protowire.AppendTag(nil, 1, protowire.BytesType)
		record = protowire.AppendBytes(record, m.key)
		record = protowire.AppendTag(record, 2, protowire.BytesType)
		record = protowire.AppendBytes(record, m.value)
		out = protowire.AppendTag(out, 3, protowire.BytesType)
		out = protowire.AppendBytes(out, record)
	}
	return out
}

// eachField gives every field that has bytes; numbers come as no bytes and the number.
func eachField(message []byte, take func(field protowire.Number, body []byte, number uint64)) error {
	for len(message) > 0 {
		field, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return protowire.ParseError(length)
		}
		message = message[length:]
		var body []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			body, length = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			number, length = protowire.ConsumeVarint(message)
		default:
			length = protowire.ConsumeFieldValue(field, kind, message)
		}
		if length < 0 {
			return protowire.ParseError(length)
		}
		message = message[length:]
		take(field, body, number)
	}
	return nil
}

func unmarshalKad(message []byte) (*kadMessage, error) {
	m := &kadMessage{}
	err := eachField(message, func(field protowire.Number, body []byte, number uint64) {
		switch field {
		case 1:
			m.kind = number
		case 2:
			m.key = body
		case 3:
			eachField(body, func(field protowire.Number, body []byte, _ uint64) {
				if field == 2 {
					m.value = body
				}
			})
		case 8:
			eachField(body, func(field protowire.Number, body []byte, _ uint64) {
				if id, err := peer.IDFromBytes(body); field == 1 && err == nil {
					m.closer = append(m.closer, id)
				}
			})
		}
	})
	return m, err
}

func writeKad(s network.Stream, m *kadMessage) error {
	body := m.marshal()
	s.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := s.Write(append(binary.AppendUvarint(nil, uint64(len(body))), body...))
	return err
}

func readKad(from *bufio.Reader) (*kadMessage, error) {
	length, err := binary.ReadUvarint(from)
	if err != nil {
		return nil, err
	}
	if length > maxKadMessage {
		return nil, errors.New("a Kademlia message is larger than this peer reads")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(from, body); err != nil {
		return nil, err
	}
	return unmarshalKad(body)
}

// keepKad keeps a value as if somebody had put it here.
func (n *node) keepKad(key, value string) error {
	body, err := base64.StdEncoding.DecodeString(value)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kadKept[key] = body
	return err
}

// serveKad answers under a protocol id: what is put is kept and told, and nobody is nearer than this peer.
func (n *node) serveKad(proto protocol.ID) {
	n.host.SetStreamHandler(proto, func(s network.Stream) {
		defer s.Close()
		from := bufio.NewReader(s)
		for {
			m, err := readKad(from)
			if err != nil {
				return
			}
			emit("kad_asked", fields{"protocol": s.Protocol(), "remote": s.Conn().RemotePeer().String(),
				"type": m.name(), "key": string(m.key), "base64": base64.StdEncoding.EncodeToString(m.value)})
			n.mu.Lock()
			if m.name() == "put_value" {
				n.kadKept[string(m.key)] = m.value
			} else {
				m.value = n.kadKept[string(m.key)]
			}
			n.mu.Unlock()
			if err := writeKad(s, m); err != nil {
				return
			}
		}
	})
}

// askKad asks one question on a stream of its own.
func (n *node) askKad(remote peer.ID, c *command) (fields, error) {
	m := &kadMessage{key: []byte(c.Key)}
	for kind, name := range kadTypes {
		if name == c.Type {
			m.kind = uint64(kind)
		}
	}
	if c.Base64 != "" {
		var err error
		if m.value, err = base64.StdEncoding.DecodeString(c.Base64); err != nil {
			return nil, err
		}
	}
	if err := n.connect(remote); err != nil {
		return nil, err
	}
	s, err := n.open(remote, protocol.ID(c.Protocol))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	s.SetReadDeadline(time.Now().Add(writeTimeout))
	if err := writeKad(s, m); err != nil {
		return nil, err
	}
	answer, err := readKad(bufio.NewReader(s))
	if err != nil {
		return nil, err
	}
	closer := []string{}
	for _, id := range answer.closer {
		closer = append(closer, id.String())
	}
	return fields{"type": answer.name(), "base64": base64.StdEncoding.EncodeToString(answer.value), "closer": closer}, nil
}
