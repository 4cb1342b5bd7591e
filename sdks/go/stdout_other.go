//go:build !linux

package temps

import (
	"errors"
	"os"
)

func swapStdout() (*os.File, error) { return nil, errors.ErrUnsupported }
