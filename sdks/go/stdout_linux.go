package temps

import (
	"os"
	"syscall"
)

// swapStdout puts standard error in the place of descriptor 1, so that children and C code are caught, too.
func swapStdout() (*os.File, error) {
	kept, err := syscall.Dup(1)
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(kept)
	if err := syscall.Dup3(2, 1, 0); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(kept), "stdout"), nil
}
