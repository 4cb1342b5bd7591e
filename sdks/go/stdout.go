package temps

import (
	"os"
	"sync"
)

// guardStdout keeps standard output for the handshake: what the program and its children print from then on goes to standard error,
// which is the plugin's log. What was printed before cannot be called back. It returns the real standard output.
var guardStdout = sync.OnceValue(func() *os.File {
	stdout := os.Stdout
	if kept, err := swapStdout(); err == nil {
		stdout = kept
	}
	os.Stdout = os.Stderr
	return stdout
})
