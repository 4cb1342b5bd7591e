package temps

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// claim is what a request says of the auth secret.
type claim int

const (
	claimAbsent claim = iota
	claimWrong
	claimRight
)

// claimOf reads the claim of a request, in constant time. Two Authorization headers are a wrong one: nobody honest sends two.
func claimOf(r *http.Request, secret string) claim {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return claimAbsent
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	// Digests have one length, whatever was shown, so the comparison tells nothing about the secret's.
	shown, wanted := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(secret))
	isSame := subtle.ConstantTimeCompare(shown[:], wanted[:]) == 1
	if len(values) == 1 && strings.EqualFold(scheme, "bearer") && secret != "" && isSame {
		return claimRight
	}
	return claimWrong
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	writeProblem(w, http.StatusUnauthorized, "the request does not carry the auth secret of this start of the plugin")
}
