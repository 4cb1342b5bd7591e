package temps

import (
	"errors"
	"fmt"
)

// ErrorCode says why there is no result, for programs.
type ErrorCode string

// The codes of version 1. Any other is read as CodeInternal.
const (
	CodeMethodNotFound   ErrorCode = "method_not_found"
	CodeInvalidParams    ErrorCode = "invalid_params"
	CodePermissionDenied ErrorCode = "permission_denied"
	CodeNotFound         ErrorCode = "not_found"
	CodeBusy             ErrorCode = "busy"
	CodeTimeout          ErrorCode = "timeout"
	CodeConflict         ErrorCode = "conflict"
	CodeQuotaExceeded    ErrorCode = "quota_exceeded"
	CodeInternal         ErrorCode = "internal"
)

// ChannelError says that the host did not answer with a result.
type ChannelError struct {
	// Code is for programs.
	Code ErrorCode
	// Message is for people.
	Message string
	// Revision is the one that the entry has by now, with CodeConflict; 0 when it does not exist.
	Revision int64
}

// Error is the message with its code.
func (e *ChannelError) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Code) }

// Is makes errors.Is(err, &ChannelError{Code: CodeNotFound}) true for every error with that code.
func (e *ChannelError) Is(target error) bool {
	other, ok := target.(*ChannelError)
	return ok && other.Code == e.Code && other.Message == ""
}

// ErrChannelLost says that there is no channel, or that it was lost before the answer came. Asking again later may work.
var ErrChannelLost = &ChannelError{Code: CodeInternal, Message: "there is no channel to the host, or it was lost before the answer came"}

// IsNotFound says whether an error of the platform or the storage means that there is no such thing.
func IsNotFound(err error) bool { return errors.Is(err, &ChannelError{Code: CodeNotFound}) }

// readCode reads a code of the host; one of a later version is CodeInternal.
func readCode(text string) ErrorCode {
	switch code := ErrorCode(text); code {
	case CodeMethodNotFound, CodeInvalidParams, CodePermissionDenied, CodeNotFound, CodeBusy, CodeTimeout, CodeConflict, CodeQuotaExceeded:
		return code
	default:
		return CodeInternal
	}
}
