package main

import (
	"encoding/json"
	"os"
	"sync"
)

// fields is one printed event, or the extra fields of one.
type fields map[string]any

var stdout = struct {
	sync.Mutex
	enc *json.Encoder
}{enc: json.NewEncoder(os.Stdout)}

// emit prints one event as one line. A parent that went away ends the process: nobody is left to
// drive it.
func emit(event string, more fields) {
	line := fields{"event": event}
	for key, value := range more {
		line[key] = value
	}
	stdout.Lock()
	defer stdout.Unlock()
	if err := stdout.enc.Encode(line); err != nil {
		os.Exit(1)
	}
}
